//! One order, from its beginning to a certificate that can be served. Keeps nothing.

use std::sync::Arc;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, KeyAuthorization, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::AcmeProblem;
use crate::http::certificate::{Certificate, Flaw, Unfit, now};
use crate::http::tls::Tls;
use crate::limits::ACME_ORDER_TIMEOUT;

/// A certificate that was just issued.
pub(super) struct Issued {
    /// Its key and its chain.
    pub(super) pem: String,
    pub(super) certificate: Certificate,
}

/// Names that are answered for while the server validates them, and no longer.
struct Answering<'a> {
    tls: &'a Tls,
    names: Vec<String>,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            self.tls.challenge(name, None);
        }
    }
}

/// Orders a certificate for these names.
pub(super) async fn order(
    account: &Account,
    domains: &[String],
    tls: &Tls,
) -> Result<Issued, AcmeProblem> {
    let identifiers: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let mut answering = Answering { tls, names: Vec::new() };
    answer_challenges(&mut order, &mut answering).await?;
    let patience = RetryPolicy::new().timeout(ACME_ORDER_TIMEOUT);
    let mut status = order.state().status;
    if status == OrderStatus::Pending {
        status = order.poll_ready(&patience).await?;
    }
    if status == OrderStatus::Invalid {
        return Err(invalid(&mut order).await);
    }
    drop(answering);
    let (request, key) = signing_request(domains)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&patience).await?;
    judged(domains, &chain, &key)
}

async fn answer_challenges(
    order: &mut Order,
    answering: &mut Answering<'_>,
) -> Result<(), AcmeProblem> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            // Validated before, and the server remembers.
            AuthorizationStatus::Valid => continue,
            _ => return Err(AcmeProblem::Order("an authorization is over already".to_owned())),
        }
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(AcmeProblem::NoChallenge);
        };
        let name = match challenge.identifier().identifier {
            Identifier::Dns(name) => name.clone(),
            _ => return Err(AcmeProblem::NoChallenge),
        };
        let answer = proof(&name, &challenge.key_authorization())?;
        answering.tls.challenge(&name, Some(answer));
        answering.names.push(name);
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why the server found an order invalid: what it says about the first name that failed.
async fn invalid(order: &mut Order) -> AcmeProblem {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { break };
        let error = state.challenges.iter().find_map(|challenge| challenge.error.clone());
        if let Some(error) = error {
            let name = state.identifier().to_string();
            return AcmeProblem::Validation { name, reason: error.to_string() };
        }
    }
    AcmeProblem::Order("the server found the order invalid".to_owned())
}

/// The certificate that proves control of a name (RFC 8737 section 3).
fn proof(name: &str, key: &KeyAuthorization) -> Result<Arc<CertifiedKey>, AcmeProblem> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(key.digest().as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| AcmeProblem::Order(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

/// A request for a certificate with a new key (RFC 2986), as DER, and the key as PEM.
fn signing_request(domains: &[String]) -> Result<(Vec<u8>, String), AcmeProblem> {
    let mut params = CertificateParams::new(domains)?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

/// The server's word is not enough: what it gave must be servable and must be what was asked for.
fn judged(domains: &[String], chain: &str, key: &str) -> Result<Issued, AcmeProblem> {
    let wrong = |reason: String| AcmeProblem::WrongCertificate(reason);
    let certificate =
        Certificate::parse(chain.as_bytes(), key.as_bytes()).map_err(|unfit| match unfit {
            Unfit::Strangers => wrong("it is for another key".to_owned()),
            Unfit::Chain(Flaw::NoCertificate) => wrong("there is none in the answer".to_owned()),
            Unfit::Chain(flaw) | Unfit::Key(flaw) => wrong(format!("it {flaw}")),
        })?;
    if let Some(days) = certificate.days_over(now()) {
        return Err(wrong(format!("it expired {days} days ago")));
    }
    match domains.iter().find(|domain| !certificate.names(domain)) {
        Some(domain) => Err(wrong(format!("it does not name {domain}"))),
        None => Ok(Issued { pem: format!("{key}{chain}"), certificate }),
    }
}
