//! `tidings check` beyond the configuration itself: keys and webhooks as the hub would use them,
//! and the history that is there. Changes nothing and starts nothing.

use std::path::Path;
use std::sync::Arc;

use tidings_connectors::make::{Author, Workshop};
use tidings_connectors::specification::SinkSpecification;
use tidings_connectors::webhook;
use tidings_core::{Matcher, Namespace};
use tidings_frontends::auth::{Auth, Role, check_key};

use crate::clock::SystemClock;
use crate::config::Config;

/// Checks what a configuration names. Says what was found, line by line.
///
/// # Errors
///
/// Everything that is wrong, line by line.
pub fn verify(config: &Config) -> Result<String, String> {
    let mut found = vec![
        format!("the hub is {}", config.hub_url()),
        format!("issuers: {}", config.auth.issuer.len()),
    ];
    found.extend(config.notes.iter().cloned());
    let mut problems = Vec::new();
    let namespace = Namespace::new(config.hub_url());
    let base = namespace.clone();
    let matchers =
        move |language, pattern: &str| Matcher::parse(language, pattern, &base).map(Arc::new);
    if let Err(error) = Auth::with_matchers(&config.auth, &namespace, matchers) {
        problems.push(error.to_string());
    }
    webhooks(config, &mut problems);
    found.extend(weak_keys(config));
    found.extend(unusable_cookie(config));
    match config.history.path.as_deref() {
        None => found.push("the history is in memory and ends with the process".to_owned()),
        Some(folder) => history(folder, &mut found, &mut problems),
    }
    if problems.is_empty() {
        found.push("no mistake found".to_owned());
        return Ok(lines(&found));
    }
    Err(lines(&problems))
}

/// Makes each webhook, which reads the files that it names. Other sinks and sources have been, as
/// far as that is possible without connecting.
fn webhooks(config: &Config, problems: &mut Vec<String>) {
    let webhooks: Vec<&SinkSpecification> =
        config.sinks.iter().filter(|sink| sink.to.kind == "webhook").collect();
    if webhooks.is_empty() {
        return;
    }
    let tls = match webhook::tls() {
        Ok(tls) => tls,
        Err(error) => {
            problems.push(format!("TLS cannot be used for webhooks: {error}"));
            return;
        }
    };
    let source = config.hub_url().to_string();
    let workshop = Workshop { source, clock: Arc::new(SystemClock::new()), tls, allow: Vec::new() };
    for told in webhooks {
        let name = &told.name;
        for bad in workshop.sink(told, Author::Operator).err().unwrap_or_default() {
            problems.push(format!("sink {name:?}: `{}`: {}", bad.path, bad.message));
        }
    }
}

/// What a hub that starts would warn about.
fn weak_keys(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for issuer in &config.auth.issuer {
        for role in [Role::Publish, Role::Subscribe] {
            // What cannot be used at all has been reported.
            if let Ok(Some(note)) = check_key(issuer, role, config.auth.allow_weak_keys) {
                notes.push(format!("note: issuer {:?}, {role} key: {note}", issuer.id));
            }
        }
    }
    notes
}

/// Browsers keep cookies whose name begins with one of these prefixes only when they come over
/// https, or from this machine (RFC 6265bis section 4.1.3).
fn unusable_cookie(config: &Config) -> Option<String> {
    let name = config.mercure.cookie.as_deref()?;
    let lower = name.to_ascii_lowercase();
    let needs_https = lower.starts_with("__secure-") || lower.starts_with("__host-");
    let url = &config.public_url;
    let is_local = match url.host() {
        Some(url::Host::Domain(host)) => host == "localhost" || host.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let unusable = needs_https && url.scheme() == "http" && !is_local;
    unusable.then(|| {
        format!(
            "note: browsers keep a cookie called {name:?} over https only, and public_url is \
             {url}: make it https, or name another in mercure.cookie"
        )
    })
}

fn history(folder: &Path, found: &mut Vec<String>, problems: &mut Vec<String>) {
    let name = folder.display();
    if !folder.exists() {
        found.push(format!("the history {name} is not there yet: the hub makes it"));
        return;
    }
    match tidings_core::check(folder) {
        Ok(report) => {
            found.push(format!("the history {name} has {} segments", report.segments.len()));
            for segment in &report.segments {
                for problem in &segment.problems {
                    problems.push(format!("{}: {problem}", segment.path.display()));
                }
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
}

fn lines(list: &[String]) -> String {
    list.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Variables, from_text};

    fn config(history: &Path) -> Config {
        let text = format!(
            "public_url = 'https://hub.example'\nhistory.path = {history:?}\n[[auth.issuer]]\n\
             id = 'a'\npublish.key = '0123456789abcdef0123456789abcdef'\n"
        );
        from_text("tidings.toml", &text, &Variables::default()).unwrap()
    }

    #[test]
    fn history_that_is_not_there_yet_is_no_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let report = verify(&config(&folder.path().join("none"))).unwrap();
        assert!(report.contains("not there yet"), "{report}");
    }

    #[test]
    fn a_cookie_that_browsers_would_not_keep_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        assert_eq!(unusable_cookie(&config), None);
        for (url, name, noted) in [
            ("http://hub.example", "__Secure-t", true),
            ("http://hub.example", "__host-t", true),
            ("http://192.0.2.1", "__Host-t", true),
            ("http://hub.example", "t", false),
            ("https://hub.example", "__Host-t", false),
            ("http://localhost:3000", "__Secure-t", false),
            ("http://[::1]:3000", "__Secure-t", false),
        ] {
            config.public_url = url.parse().unwrap();
            config.mercure.cookie = Some(name.to_owned());
            assert_eq!(unusable_cookie(&config).is_some(), noted, "{url} {name}");
        }
    }

    #[test]
    fn short_key_from_the_environment_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let under = |key: &str| {
            let variables = [("MERCURE_PUBLISHER_JWT_KEY", key), ("TIDINGS_HISTORY_PATH", path)];
            verify(&crate::config::from_variables(&variables.into()).unwrap()).unwrap()
        };
        let report = under("hunter2");
        assert!(report.contains("publish key: the secret is shorter"), "{report}");
        assert!(!report.contains("hunter2"), "{report}");
        assert!(!under(&"k".repeat(32)).contains("shorter"));
    }

    #[test]
    fn the_certificates_that_a_webhook_names_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.pem");
        let told = |path: &Path| {
            let text = format!(
                "public_url = 'https://hub.example'\nhistory.path = {:?}\n[[auth.issuer]]\n\
                 id = 'a'\npublish.key = '0123456789abcdef0123456789abcdef'\n[[sink]]\n\
                 kind = 'webhook'\nname = 'shop'\ntopics = '*'\nurl = 'https://a.example/'\n\
                 ca_file = {path:?}\n",
                folder.path().join("none"),
            );
            verify(&from_text("tidings.toml", &text, &Variables::default()).unwrap())
        };
        let report = told(&path).unwrap_err();
        assert!(report.contains("sink \"shop\": `ca_file`: cannot be read"), "{report}");
        std::fs::write(&path, "text").unwrap();
        let report = told(&path).unwrap_err();
        assert!(report.contains("sink \"shop\": `ca_file`: "), "{report}");
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        std::fs::write(&path, own.pem()).unwrap();
        assert!(told(&path).is_ok());
    }

    #[test]
    fn file_that_is_no_history_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("00000000000000000001.log");
        std::fs::write(file, vec![b'x'; 8192]).unwrap();
        let report = verify(&config(folder.path())).unwrap_err();
        assert!(report.contains("00000000000000000001.log"), "{report}");
    }
}
