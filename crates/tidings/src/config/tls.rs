//! `[tls]`: its settings, and what they mean together and beside others.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::DnsName;
use serde::Deserialize;
use tidings_frontends::http::acme::AcmeOptions;
use tidings_frontends::http::{CertificateFiles, check_certificate};
use tidings_frontends::limits::{ACME_DOMAINS_MAX, CERTIFICATES_MAX};
use url::Url;

use super::duration;
use super::load::Meaning;
use super::options::HistoryOptions;
use super::schema::{Key, Kind, unset, value};

/// Settings of `[tls]`.
pub(super) const KEYS: [Key; 11] = [
    value(
        "tls.listen",
        Kind::Addresses,
        "[]",
        "Where the hub listens with TLS, as in \"0.0.0.0:443\", beside `listen`.",
    ),
    value(
        "tls.certificate",
        Kind::Texts,
        "[]",
        "The file with the certificate and those that lead to its issuer (PEM), or a list of such
files. Changed files are served within a minute.",
    ),
    value(
        "tls.key",
        Kind::Texts,
        "[]",
        "The file with the certificate's private key (PEM), or a list in the same order. Clients
that name no host get the first.",
    ),
    value(
        "tls.redirect",
        Kind::Boolean,
        "false",
        "Whether requests that come to `listen` are sent to the same place at `public_url`.",
    ),
    value(
        "tls.hsts",
        Kind::DurationOrOff,
        r#""off""#,
        "How long browsers that have been here shall use nothing but TLS, as in \"365d\". Hard to
take back: begin with a day.",
    ),
    value(
        "tls.acme.domains",
        Kind::Texts,
        "[]",
        "Names to get a certificate for from an ACME server. Their DNS must lead here, and port 443
to `tls.listen`.",
    ),
    unset(
        "tls.acme.contact",
        Kind::Text,
        r#""mailto:ops@example.com""#,
        "Where the ACME server can reach you.",
    ),
    value(
        "tls.acme.directory",
        Kind::Url,
        r#""https://acme-v02.api.letsencrypt.org/directory""#,
        "The directory of the ACME server; this one is Let's Encrypt.",
    ),
    value(
        "tls.acme.accept_terms",
        Kind::Boolean,
        "false",
        "Whether you accept the terms of service of the ACME server. It gives nothing otherwise.",
    ),
    unset(
        "tls.acme.folder",
        Kind::File,
        r#""/var/lib/tidings/acme""#,
        "Where account and certificate are kept. Unset, it is `acme` in the data folder.",
    ),
    unset(
        "tls.acme.ca_file",
        Kind::File,
        r#""/etc/ssl/private-ca.pem""#,
        "The certificates (PEM) that a private ACME server's own is judged by, instead of the
system's.",
    ),
];

/// `[tls]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSettings {
    pub(super) listen: Vec<SocketAddr>,
    certificate: Vec<PathBuf>,
    key: Vec<PathBuf>,
    redirect: bool,
    #[serde(deserialize_with = "duration::or_off")]
    hsts: Option<Duration>,
    acme: AcmeSettings,
}

/// `[tls.acme]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcmeSettings {
    domains: Vec<String>,
    contact: Option<String>,
    directory: String,
    accept_terms: bool,
    folder: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// `[tls]`, checked: listeners with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// Where; empty without TLS.
    pub listen: Vec<SocketAddr>,
    /// Certificates from files; the first is for clients that name no host.
    pub certificates: Vec<CertificateFiles>,
    /// Whether requests without TLS are sent to the public URL.
    pub redirect: bool,
    /// How long browsers shall insist on TLS.
    pub hsts: Option<Duration>,
    /// A certificate from an ACME server.
    pub acme: Option<AcmeOptions>,
}

impl Meaning<'_> {
    pub(super) fn tls(
        &mut self,
        settings: TlsSettings,
        history: &HistoryOptions,
        public_url: &Url,
        notes: &mut Vec<String>,
    ) -> TlsOptions {
        let TlsSettings { listen, certificate, key, redirect, hsts, acme } = settings;
        let certificates = self.certificates(&certificate, &key, notes);
        let acme = self.acme(acme, history);
        let any = !certificate.is_empty() || acme.is_some();
        if listen.is_empty() && any {
            let hint = "as in listen = \"0.0.0.0:443\" below [tls]";
            self.wrong("tls", "there are certificates, but no `tls.listen`", hint);
        }
        if !listen.is_empty() && !any {
            let hint = "set `tls.certificate` and `tls.key`, or `tls.acme.domains`";
            self.wrong("tls.listen", "there is no certificate for `tls.listen`", hint);
        }
        if listen.is_empty() && (redirect || hsts.is_some()) {
            let path = if redirect { "tls.redirect" } else { "tls.hsts" };
            let hint = "set `tls.listen`, or leave this to the proxy that does TLS";
            self.wrong(path, "it needs TLS by the hub itself", hint);
        }
        let http = public_url.scheme() != "https";
        if redirect && http {
            let hint = "public_url = \"https://hub.example.com\", as clients write it";
            self.wrong("tls.redirect", "`redirect` leads to `public_url`, which is no https", hint);
        } else if !listen.is_empty() && http {
            notes.push(format!(
                "TLS is on, but public_url is {public_url}: tokens and relative topics are made \
                 for that; set it to the https URL that clients use"
            ));
        }
        TlsOptions { listen, certificates, redirect, hsts, acme }
    }

    fn certificates(
        &mut self,
        files: &[PathBuf],
        keys: &[PathBuf],
        notes: &mut Vec<String>,
    ) -> Vec<CertificateFiles> {
        if files.len() != keys.len() {
            self.wrong(
                if files.is_empty() { "tls.key" } else { "tls.certificate" },
                format!("there are {} certificates and {} keys", files.len(), keys.len()),
                "write `certificate` and `key`, or two lists in the same order",
            );
        }
        if files.len() > CERTIFICATES_MAX {
            let hint = format!("{CERTIFICATES_MAX} at most");
            self.wrong("tls.certificate", "there are too many certificates", hint);
            return Vec::new();
        }
        let pairs: Vec<CertificateFiles> = files
            .iter()
            .zip(keys)
            .map(|(certificate, key)| CertificateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            })
            .collect();
        for pair in &pairs {
            match check_certificate(pair) {
                Ok(expired) => notes.extend(expired.map(|expired| expired.to_string())),
                Err(error) => {
                    let hint = "both files are PEM, for the user that runs the hub to read";
                    self.wrong("tls.certificate", error.to_string(), hint);
                }
            }
        }
        pairs
    }

    fn acme(&mut self, settings: AcmeSettings, history: &HistoryOptions) -> Option<AcmeOptions> {
        let AcmeSettings { domains, contact, directory, accept_terms, folder, ca_file } = settings;
        if domains.is_empty() {
            return None;
        }
        if domains.len() > ACME_DOMAINS_MAX {
            let hint = format!("{ACME_DOMAINS_MAX} at most");
            self.wrong("tls.acme.domains", "there are too many domains", hint);
        }
        if let Some(name) = domains.iter().find(|name| !is_name(name)) {
            self.wrong(
                "tls.acme.domains",
                format!("{name:?} is not the name of a host"),
                "as in \"hub.example.com\", without scheme, port and wildcard",
            );
        }
        if !accept_terms {
            self.wrong(
                "tls.acme",
                "the terms of service of the ACME server are not accepted",
                "read them, then write accept_terms = true below [tls.acme]",
            );
        }
        if contact.as_ref().is_some_and(|contact| !contact.starts_with("mailto:")) {
            let hint = "contact = \"mailto:ops@example.com\"";
            self.wrong("tls.acme.contact", "`contact` is no mailto: address", hint);
        }
        if !directory.starts_with("https://") {
            let hint = "as in \"https://acme-v02.api.letsencrypt.org/directory\"";
            self.wrong("tls.acme.directory", "`directory` is no https URL", hint);
        }
        if let Some(file) = &ca_file
            && let Err(error) = std::fs::metadata(file)
        {
            self.wrong("tls.acme.ca_file", format!("{}: {error}", file.display()), "a PEM file");
        }
        let in_history = || history.path.as_ref().map(|path| path.join("acme"));
        let Some(folder) = folder.or_else(in_history) else {
            self.wrong(
                "tls.acme",
                "account and certificate need a folder, and durability \"memory\" has none",
                "folder = \"/var/lib/tidings/acme\" below [tls.acme]",
            );
            return None;
        };
        Some(AcmeOptions { domains, contact, directory, folder, roots: ca_file })
    }
}

/// A DNS name that a certificate can be ordered for without access to its zone.
fn is_name(text: &str) -> bool {
    let address = text.parse::<std::net::IpAddr>().is_ok();
    !address && !text.ends_with('.') && DnsName::try_from(text).is_ok()
}
