//! What `tidings courier` is told: the environment of a Courier, as it is set up already, and how
//! what its database holds is brought here. Knows no request; nothing is served here.

mod bring;
mod brought;
mod database;
mod import;
mod imported;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use tidings_frontends::courier::check_key_secret;
use url::Url;

pub use import::{ImportArguments, ImportProblem};

use crate::config::{Mistakes, Variables, socket_url};
use crate::reading::Reading;

/// What variables of `[http]` begin with.
const HTTP: &str = "TIDINGS_HTTP_";
/// The port where nobody sets another.
const PORT: u16 = 8883;

/// The settings of a Courier.
#[derive(Clone, PartialEq, Eq)]
pub struct CourierSettings {
    /// Where clients are served.
    pub listen: Vec<SocketAddr>,
    /// What signed URLs begin with.
    pub ws_url: Url,
    /// The secret of the application's tokens.
    pub jwt_secret: String,
    /// The key of URLs that an older program signed.
    pub key_secret: Option<String>,
    /// Where the history is; in memory when nobody says.
    pub data: Option<PathBuf>,
    /// Whether a database is named, which only an import reads.
    pub has_database: bool,
    /// Where the operator's listener is; nowhere when nobody says.
    pub admin_listen: Option<SocketAddr>,
    /// What operators present there.
    pub admin_token: Option<String>,
    /// Those of `[http]`, under the names that they have for any hub.
    pub http: Variables,
    /// `RUST_LOG`, wherever it is set.
    pub log: Option<String>,
}

impl fmt::Debug for CourierSettings {
    /// Without secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CourierSettings")
            .field("listen", &self.listen)
            .field("data", &self.data)
            .field("admin_listen", &self.admin_listen)
            .finish_non_exhaustive()
    }
}

impl CourierSettings {
    /// The settings in the environment of this process and the nearest `.env.local` and `.env`, in
    /// this precedence, with what is to be said about those files.
    ///
    /// # Errors
    ///
    /// Everything that is missing or wrong, at once.
    pub fn of_process() -> Result<(CourierSettings, Vec<String>), Mistakes> {
        let (variables, notes) = Variables::of_process_and_parents(Path::new("."));
        match CourierSettings::of(&variables) {
            Ok(settings) => Ok((settings, notes)),
            Err(mistakes) => Err(mistakes.behind(notes)),
        }
    }

    /// The settings in `variables`.
    ///
    /// # Errors
    ///
    /// Everything that is missing or wrong, at once.
    pub fn of(variables: &Variables) -> Result<CourierSettings, Mistakes> {
        let mut reading = Reading::new(variables);
        let jwt_secret = reading.secret("COURIER_JWT_SECRET", "the secret of the tokens");
        let key_secret = variables.get("COURIER_KEY_SECRET").map(str::to_owned);
        if let Some(Err(bad)) = key_secret.as_deref().map(check_key_secret) {
            let hint = "leave it out where no old signed URLs are in use";
            reading.say("COURIER_KEY_SECRET", &bad.to_string(), hint);
        }
        let port = reading.port();
        let host = variables.get("COURIER_HOST").unwrap_or("localhost").trim();
        let listen = port.and_then(|port| reading.listen(host, port));
        let ws_url = reading.ws_url(host, port.unwrap_or(PORT));
        let admin_listen = reading.address("TIDINGS_ADMIN_LISTEN");
        let admin_token = reading.admin_token();
        match (jwt_secret, listen, ws_url, reading.is_good()) {
            (Some(jwt_secret), Some(listen), Some(ws_url), true) => Ok(CourierSettings {
                listen,
                ws_url,
                jwt_secret: jwt_secret.to_owned(),
                key_secret,
                data: variables.get("TIDINGS_DATA").map(PathBuf::from),
                has_database: variables.get("COURIER_DATABASE_URL").is_some(),
                admin_listen,
                admin_token,
                http: variables.beginning(HTTP),
                log: variables.get("RUST_LOG").map(str::to_owned),
            }),
            _ => Err(reading.mistakes()),
        }
    }
}

impl Reading<'_> {
    fn port(&mut self) -> Option<u16> {
        const NAME: &str = "COURIER_PORT";
        let Some(text) = self.variables.get(NAME) else { return Some(PORT) };
        let port = text.trim().parse().ok();
        if port.is_none() {
            self.say(NAME, "is not a port", "a number up to 65535, as in 8883");
        }
        port
    }

    /// Where a host of this name listens.
    fn listen(&mut self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        if host.eq_ignore_ascii_case("localhost") {
            let (four, six) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
            // Not every machine has the newer one. A free port would be another for each.
            let has_six = port != 0 && TcpListener::bind(SocketAddr::new(six, 0)).is_ok();
            let hosts: Vec<IpAddr> = if has_six { vec![four, six] } else { vec![four] };
            return Some(hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let first = (bare, port).to_socket_addrs().ok().and_then(|mut found| found.next());
        if first.is_none() {
            let hint = "an address or a name of this machine, as in 0.0.0.0 or localhost";
            self.say("COURIER_HOST", "is no address of this machine", hint);
        }
        first.map(|address| vec![address])
    }

    fn ws_url(&mut self, host: &str, port: u16) -> Option<Url> {
        const NAME: &str = "COURIER_WS_URL";
        let Some(text) = self.variables.get(NAME) else {
            let everywhere = ["0.0.0.0", "::", "[::]"].contains(&host);
            let host = match host {
                _ if everywhere => "localhost".to_owned(),
                host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
                host => host.to_owned(),
            };
            return socket_url(&format!("ws://{host}:{port}/ws"));
        };
        let url = socket_url(text.trim());
        if url.is_none() {
            let hint = "as in wss://courier.example.com/ws";
            self.say(NAME, "is no URL of a WebSocket", hint);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const SECRET: (&str, &str) = ("COURIER_JWT_SECRET", "0123456789abcdef0123456789abcdef");

    #[test]
    fn a_secret_alone_is_enough() {
        let settings = CourierSettings::of(&[SECRET].into()).unwrap();
        assert_eq!(settings.listen[0], "127.0.0.1:8883".parse().unwrap());
        assert_eq!(settings.ws_url.as_str(), "ws://localhost:8883/ws");
        assert_eq!((settings.key_secret.as_ref(), settings.data.as_ref()), (None, None));
        assert!(!format!("{settings:?}").contains("0123"));
    }

    #[test]
    fn settings_are_those_of_a_courier() {
        let settings = CourierSettings::of(
            &[
                SECRET,
                ("COURIER_HOST", "0.0.0.0"),
                ("COURIER_PORT", "9000"),
                ("COURIER_WS_URL", "https://c.example/v1/ws"),
                ("COURIER_KEY_SECRET", "0123456789abcdef"),
                ("COURIER_DATABASE_URL", "postgres://u:p@db/c"),
                ("COURIER_PRODUCTION", "true"),
                ("TIDINGS_DATA", "/data"),
            ]
            .into(),
        );
        let settings = settings.unwrap();
        assert_eq!(settings.listen, ["0.0.0.0:9000".parse().unwrap()]);
        assert_eq!(settings.ws_url.as_str(), "wss://c.example/v1/ws");
        assert!(settings.has_database && settings.key_secret.is_some());
        assert_eq!(settings.data.as_deref(), Some(Path::new("/data")));
        let everywhere = CourierSettings::of(&[SECRET, ("COURIER_HOST", "::")].into()).unwrap();
        assert_eq!(everywhere.ws_url.as_str(), "ws://localhost:8883/ws");
    }

    #[test]
    fn a_secret_is_taken_as_it_is_written() {
        let secrets =
            [("COURIER_JWT_SECRET", " spaces count "), ("COURIER_KEY_SECRET", "0123456789abcde ")];
        let settings = CourierSettings::of(&secrets.into()).unwrap();
        assert_eq!(settings.jwt_secret, " spaces count ");
        assert_eq!(settings.key_secret.as_deref(), Some("0123456789abcde "));
        let blank = CourierSettings::of(&[("COURIER_JWT_SECRET", " ")].into());
        let report = blank.unwrap_err().report(false);
        assert!(report.contains("COURIER_JWT_SECRET") && report.contains("is empty"), "{report}");
    }

    #[test]
    fn settings_of_connections_are_those_of_a_hub() {
        let proxies = ("TIDINGS_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, ::1");
        let most = ("TIDINGS_HTTP_CONNECTIONS_PER_ADDRESS_MAX", "7");
        let load = |more: &[(&str, &str); 2]| {
            let [one, other] = *more;
            config::courier(&CourierSettings::of(&[SECRET, one, other].into()).unwrap())
        };
        let config = load(&[proxies, most]).unwrap();
        assert_eq!(config.http.trusted_proxies.len(), 2);
        assert_eq!(config.http.connections_per_address_max, 7);
        let others = [("TIDINGS_HTTP_TRUSTED_PROXY", "::1"), ("TIDINGS_HTTP_CONNECTIONS_MAX", "x")];
        let report = load(&others).unwrap_err().report(false);
        for part in ["TIDINGS_HTTP_TRUSTED_PROXIES", "TIDINGS_HTTP_CONNECTIONS_MAX", "2 mistakes"] {
            assert!(report.contains(part), "no {part} in\n{report}");
        }
        // What is for a hub alone is not looked at.
        let config = load(&[("TIDINGS_HISTORY_DURABILITY", "x"), ("TIDINGS_LISTEN", "y")]);
        assert_eq!(config.unwrap().http.connections_per_address_max, 1_024);
    }

    #[test]
    fn everything_wrong_is_said_at_once_without_secrets() {
        let wrong = [
            ("COURIER_KEY_SECRET", "0123456789"),
            ("COURIER_PORT", "many"),
            ("COURIER_WS_URL", "ftp://x"),
        ];
        let report = CourierSettings::of(&wrong.into()).unwrap_err().report(false);
        for part in [
            "COURIER_JWT_SECRET",
            "COURIER_KEY_SECRET",
            "COURIER_PORT",
            "COURIER_WS_URL",
            "4 mistakes",
        ] {
            assert!(report.contains(part), "no {part} in\n{report}");
        }
        assert!(!report.contains("0123456789"));
    }
}
