//! `tidings egress check`: whether the guard lets webhooks go to a URL. Asks the name servers, and
//! nobody else.

use std::net::IpAddr;

use ipnet::IpNet;
use tidings_connectors::webhook::Egress;
use url::Url;

use super::{ClientProblem, printable};

/// What to check.
#[derive(clap::Args)]
pub struct EgressArguments {
    /// The URL of an endpoint
    #[arg(value_name = "URL")]
    url: Url,
    /// A network that may be reached beside the public ones, as 10.0.0.0/8, or an address; again
    /// for more
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    allow: Vec<IpNet>,
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "write a network as 10.0.0.0/8, or an address".to_owned())
}

/// Says where webhooks to a URL would go, as for an endpoint made over the API.
///
/// # Errors
///
/// When they may not go there, and why.
pub async fn egress(arguments: &EgressArguments) -> Result<String, ClientProblem> {
    let guard = Egress::guarded(arguments.allow.clone());
    let addresses = guard.resolve(&arguments.url).await?;
    let host = arguments.url.host_str().unwrap_or_default();
    let lines = addresses.iter().map(|address| format!("{host} is {address}: may be reached\n"));
    Ok(printable(&lines.collect::<String>()))
}
