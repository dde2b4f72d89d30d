//! What `tidings relay` is told: the environment of a relay between NATS and a webhook, as such
//! relays are set up already. Knows no hub; nothing runs here.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::config::{Mistakes, Variables};
use crate::reading::Reading;

mod addresses;
mod log;
mod reading;

/// The settings of a relay.
#[derive(Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Where each message is posted to: an http or https URL without a user.
    pub destination: Url,
    /// The user and password that stood in it, for basic authentication.
    pub basic: Option<(String, String)>,
    /// NATS servers of one cluster, each with scheme (`nats` or `tls`) and port; at least one. A
    /// user and password may stand in them where `user` and `password` are empty.
    pub servers: Vec<String>,
    /// The user to log in as; may be empty.
    pub user: String,
    /// The password; may be empty.
    pub password: String,
    /// Messages below this subject are posted; the subject itself is not.
    pub subject_prefix: String,
    /// What a subject begins with, in place of that, when it is published again. Another one.
    pub relayed_prefix: String,
    /// Time for one request.
    pub timeout: Duration,
    /// Where the history is; in memory when nobody says.
    pub data: Option<PathBuf>,
    /// Where subscribers are served; nowhere when nobody says.
    pub listen: Option<SocketAddr>,
    /// Where the operator's listener is; nowhere when nobody says.
    pub admin_listen: Option<SocketAddr>,
    /// What operators present there.
    pub admin_token: Option<String>,
    /// What is logged, as this program writes it: `RUST_LOG`, wherever it is set.
    pub log: Option<String>,
}

impl fmt::Debug for RelaySettings {
    /// Without what may be a secret: URLs have passwords and tokens in them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RelaySettings")
            .field("subject_prefix", &self.subject_prefix)
            .field("relayed_prefix", &self.relayed_prefix)
            .field("timeout", &self.timeout)
            .field("data", &self.data)
            .field("listen", &self.listen)
            .field("admin_listen", &self.admin_listen)
            .finish_non_exhaustive()
    }
}

impl RelaySettings {
    /// The settings in the environment of this process and the nearest `.env.local` and `.env`, in
    /// this precedence, with what is to be said about those files.
    ///
    /// # Errors
    ///
    /// Everything that is missing or wrong, at once.
    pub fn of_process() -> Result<(RelaySettings, Vec<String>), Mistakes> {
        let (variables, mut notes) = Variables::of_process_and_parents(Path::new("."));
        let settings = match RelaySettings::of(&variables) {
            Ok(settings) => settings,
            Err(mistakes) => return Err(mistakes.behind(notes)),
        };
        notes.extend(variables.get("RUST_LOG").and_then(|text| log::filter(text).1));
        Ok((settings, notes))
    }

    /// The settings in `variables`.
    ///
    /// # Errors
    ///
    /// Everything that is missing or wrong, at once.
    pub fn of(variables: &Variables) -> Result<RelaySettings, Mistakes> {
        let mut reading = Reading::new(variables);
        let destination = reading.destination();
        let servers = reading.servers();
        let (user, password) = (reading.login("NATS_USER"), reading.login("NATS_PASS"));
        let is_login = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let servers = match is_login(&user) || is_login(&password) {
            true => servers.map(addresses::without_login),
            false => servers,
        };
        let subject_prefix = reading.prefix("NATS_SUBJECT_PREFIX", "cms.cache");
        let relayed_prefix = reading.prefix("NATS_RELAYED_SUBJECT_PREFIX", "relayed.cache");
        if subject_prefix.is_some() && subject_prefix == relayed_prefix {
            let message = "is the same as NATS_SUBJECT_PREFIX: each message would come again";
            reading.say("NATS_RELAYED_SUBJECT_PREFIX", message, "as in relayed.cache");
        }
        let timeout = reading.timeout();
        let listen = reading.address("TIDINGS_LISTEN");
        let admin_listen = reading.address("TIDINGS_ADMIN_LISTEN");
        let admin_token = reading.admin_token();
        let is_good = reading.is_good();
        match (destination, servers, user, password, subject_prefix, relayed_prefix, timeout) {
            (
                Some((destination, basic)),
                Some(servers),
                Some(user),
                Some(password),
                Some(subject_prefix),
                Some(relayed_prefix),
                Some(timeout),
            ) if is_good => Ok(RelaySettings {
                destination,
                basic,
                servers,
                user,
                password,
                subject_prefix,
                relayed_prefix,
                timeout,
                data: variables.get("TIDINGS_DATA").map(PathBuf::from),
                listen,
                admin_listen,
                admin_token,
                log: variables.get("RUST_LOG").map(|text| log::filter(text).0),
            }),
            _ => Err(reading.mistakes()),
        }
    }

    /// Whether the destination is another one on each machine, as `localhost` is.
    pub fn is_destination_of_machine(&self) -> bool {
        addresses::is_of_machine(&self.destination)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [(&str, &str); 6] = [
        ("WEBHOOK_DESTINATION", "http://localhost:3000/api/cache/webhook"),
        ("NATS_ADDRESS", "nats://localhost:4222"),
        ("NATS_USER", ""),
        ("NATS_PASS", ""),
        ("NATS_SUBJECT_PREFIX", "cms.cache"),
        ("NATS_RELAYED_SUBJECT_PREFIX", "relayed.cache"),
    ];

    /// All variables, with one in another way, or without it.
    fn with(name: &str, value: Option<&str>) -> Result<RelaySettings, String> {
        let kept = ALL.iter().filter(|(other, _)| *other != name);
        let added = value.map(|value| (name, value));
        let text: String =
            kept.copied().chain(added).map(|(name, value)| format!("{name}='{value}'\n")).collect();
        read(&text)
    }

    fn read(text: &str) -> Result<RelaySettings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), text).unwrap();
        let (variables, notes) = Variables::of_process_and_parents(folder.path());
        assert_eq!(notes, [] as [&str; 0]);
        RelaySettings::of(&variables).map_err(|mistakes| mistakes.report(false))
    }

    #[test]
    fn the_settings_of_the_relay_are_read() {
        let settings = RelaySettings::of(&ALL.into()).unwrap();
        assert_eq!(settings.destination.as_str(), "http://localhost:3000/api/cache/webhook");
        assert_eq!((settings.basic, settings.data), (None, None));
        assert_eq!(settings.servers, ["nats://localhost:4222"]);
        assert_eq!((settings.user.as_str(), settings.password.as_str()), ("", ""));
        assert_eq!(settings.subject_prefix, "cms.cache");
        assert_eq!(settings.relayed_prefix, "relayed.cache");
        assert_eq!(settings.timeout, Duration::from_secs(30));
        let more = with("TIDINGS_DATA", Some("/data")).unwrap();
        assert_eq!(more.data.unwrap(), Path::new("/data"));
        assert_eq!(with("RUST_LOG", Some("debug")).unwrap().log.unwrap(), "debug");
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let report = read("").unwrap_err();
        for (name, _) in ALL {
            assert!(report.contains(&format!("{name}: is not set")), "{name} in\n{report}");
        }
        assert!(report.contains("6 mistakes"), "{report}");
        let report = with("WEBHOOK_DESTINATION", Some("")).unwrap_err();
        assert!(report.contains("WEBHOOK_DESTINATION: is empty"), "{report}");
    }

    #[test]
    fn servers_come_with_and_without_scheme_and_port() {
        for (text, servers) in [
            ("localhost", "nats://localhost:4222"),
            ("localhost:1", "nats://localhost:1"),
            ("nats://my_nats", "nats://my_nats:4222"),
            ("tls://nats.example.com", "tls://nats.example.com:4222"),
            ("nats://u:p@host/", "nats://u:p@host:4222"),
            ("[::1]", "nats://[::1]:4222"),
            ("nats://[::1]:5", "nats://[::1]:5"),
            ("a, nats://b:1,", "nats://a:4222 nats://b:1"),
        ] {
            let settings = with("NATS_ADDRESS", Some(text)).unwrap();
            assert_eq!(settings.servers.join(" "), servers, "{text}");
        }
        for text in ["http://a", "nats://", "a:99999", ",", "nats://a/b", "a b", "ws://a"] {
            let report = with("NATS_ADDRESS", Some(text)).unwrap_err();
            assert!(report.contains("NATS_ADDRESS: is not the address"), "{text}\n{report}");
        }
    }

    #[test]
    fn the_variables_for_the_login_win_over_the_address() {
        let mut variables = ALL;
        variables[1].1 = "nats://a:b@n,tls://token@m:1";
        let settings = RelaySettings::of(&variables.into()).unwrap();
        assert_eq!(settings.servers, ["nats://a:b@n:4222", "tls://token@m:1"]);
        variables[2].1 = "me";
        let settings = RelaySettings::of(&variables.into()).unwrap();
        assert_eq!(settings.servers, ["nats://n:4222", "tls://m:1"]);
    }

    #[test]
    fn the_host_stands_in_for_the_address() {
        let mut host = ALL;
        host[1] = ("NATS_HOST", "n");
        assert_eq!(RelaySettings::of(&host.into()).unwrap().servers, ["nats://n:4222"]);
        let both = with("NATS_HOST", Some("other")).unwrap();
        assert_eq!(both.servers, ["nats://localhost:4222"]);
        host[1] = ("NATS_HOST", "http://n");
        let report = RelaySettings::of(&host.into()).unwrap_err().report(false);
        assert!(report.contains("NATS_HOST: is not"), "{report}");
    }

    #[test]
    fn a_user_in_the_destination_is_basic_authentication() {
        for (text, basic) in [
            ("https://me:p%40ss@e/x?y=1", ("me", "p@ss")),
            ("https://me@e/x?y=1#z", ("me", "")),
            ("https://:p@e/x?y=1", ("", "p")),
        ] {
            let settings = with("WEBHOOK_DESTINATION", Some(text)).unwrap();
            assert_eq!(settings.destination.as_str(), "https://e/x?y=1");
            assert_eq!(settings.basic, Some((basic.0.to_owned(), basic.1.to_owned())));
        }
        for text in ["localhost:3000", "ftp://e", "hook", "http://"] {
            let report = with("WEBHOOK_DESTINATION", Some(text)).unwrap_err();
            assert!(report.contains("is not an http:// or https:// URL"), "{report}");
        }
    }

    #[test]
    fn prefixes_are_begins_of_subjects() {
        for text in ["a.", ".a", "a..b", "a.*", ">", "a.>", "a b"] {
            let report = with("NATS_SUBJECT_PREFIX", Some(text)).unwrap_err();
            assert!(report.contains("NATS_SUBJECT_PREFIX: is not the begin"), "{text}\n{report}");
        }
        let same = with("NATS_RELAYED_SUBJECT_PREFIX", Some("cms.cache")).unwrap_err();
        assert!(same.contains("is the same as NATS_SUBJECT_PREFIX"), "{same}");
        // Below the source is fine: what is relayed is not taken again.
        assert!(with("NATS_RELAYED_SUBJECT_PREFIX", Some("cms.cache.r")).is_ok());
    }

    #[test]
    fn the_timeout_is_a_duration_or_seconds() {
        for (text, seconds) in [("5", 5), ("5s", 5), ("1m30s", 90), ("", 30)] {
            let settings = with("WEBHOOK_TIMEOUT", Some(text)).unwrap();
            assert_eq!(settings.timeout.as_secs(), seconds, "{text}");
        }
        for text in ["0", "-1", "soon", "11m", "99999999999999999999"] {
            assert!(with("WEBHOOK_TIMEOUT", Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_opened_only_where_somebody_says() {
        let none = RelaySettings::of(&ALL.into()).unwrap();
        assert_eq!((none.listen, none.admin_listen, none.admin_token), (None, None, None));
        let admin = with("TIDINGS_ADMIN_LISTEN", Some("127.0.0.1:3001")).unwrap();
        assert_eq!(admin.admin_listen, Some("127.0.0.1:3001".parse().unwrap()));
        let report = with("TIDINGS_LISTEN", Some("3000")).unwrap_err();
        assert!(report.contains("TIDINGS_LISTEN: is not an address"), "{report}");
        let report = with("TIDINGS_ADMIN_TOKEN", Some("hunter2")).unwrap_err();
        assert!(report.contains("16 visible") && !report.contains("hunter2"), "{report}");
        let token = with("TIDINGS_ADMIN_TOKEN", Some("0123456789abcdef")).unwrap();
        assert!(!format!("{token:?}").contains("0123456789"));
        assert_eq!(token.admin_token.unwrap(), "0123456789abcdef");
        let report = with("TIDINGS_ADMIN_TOKEN_FILE", Some("/nowhere/token")).unwrap_err();
        assert!(report.contains("cannot read /nowhere/token"), "{report}");
    }

    #[test]
    fn no_password_is_shown() {
        let mut variables = ALL;
        variables[0].1 = "https://me:hunter2@e/hunter2";
        variables[1].1 = "nats://me:hunter2@n";
        variables[3].1 = "hunter2";
        let settings = RelaySettings::of(&variables.into()).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        variables[0].1 = "ftp://me:hunter2@e";
        variables[1].1 = "http://me:hunter2@n";
        let report = RelaySettings::of(&variables.into()).unwrap_err().report(false);
        assert!(!report.contains("hunter2"), "{report}");
    }

    proptest! {
        #[test]
        fn no_values_panic(values in proptest::collection::vec(".{0,20}", 7)) {
            let mut variables = [("", ""); 7];
            let names = ALL.iter().map(|(name, _)| *name).chain(["WEBHOOK_TIMEOUT"]);
            for (at, (name, value)) in names.zip(&values).enumerate() {
                variables[at] = (name, value.as_str());
            }
            let _ = RelaySettings::of(&variables.into());
        }
    }
}
