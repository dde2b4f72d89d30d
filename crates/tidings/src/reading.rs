//! Settings that are variables alone, for commands in place of other programs: what is missing or
//! wrong is gathered and said at once. Knows no command.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::{Mistakes, Variables, is_admin_token, read_secret};
use crate::limits::ADMIN_TOKEN_BYTES_MIN;

/// Variables, and what is wrong with them.
pub(crate) struct Reading<'a> {
    pub(crate) variables: &'a Variables,
    wrong: Vec<(&'static str, String, String)>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(variables: &'a Variables) -> Reading<'a> {
        Reading { variables, wrong: Vec::new() }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Everything that is wrong.
    pub(crate) fn mistakes(self) -> Mistakes {
        Mistakes::in_variables(self.wrong)
    }

    /// Messages repeat no value: each may hold a password.
    pub(crate) fn say(&mut self, name: &'static str, message: &str, hint: &str) {
        self.wrong.push((name, message.to_owned(), hint.to_owned()));
    }

    /// A variable that must be set to something, without what is blank around it.
    pub(crate) fn required(&mut self, name: &'static str, example: &str) -> Option<&'a str> {
        self.secret(name, example).map(str::trim)
    }

    /// A variable that must be set to something, as it is written: blanks of a secret are part of
    /// it for whoever uses it elsewhere.
    pub(crate) fn secret(&mut self, name: &'static str, example: &str) -> Option<&'a str> {
        let value = self.variables.get_even_empty(name);
        match value {
            None => self.say(name, "is not set", &format!("{name}={example}")),
            Some(value) if value.trim().is_empty() => {
                self.say(name, "is empty", &format!("{name}={example}"));
            }
            Some(value) => return Some(value),
        }
        None
    }

    /// An address to listen on, where there is one.
    pub(crate) fn address(&mut self, name: &'static str) -> Option<SocketAddr> {
        let text = self.variables.get(name).filter(|text| *text != "off")?;
        let address = text.parse().ok();
        if address.is_none() {
            self.say(name, "is not an address", "write IP and port, as in 127.0.0.1:3001");
        }
        address
    }

    /// `TIDINGS_ADMIN_TOKEN`, or what is in the file that `TIDINGS_ADMIN_TOKEN_FILE` names.
    pub(crate) fn admin_token(&mut self) -> Option<String> {
        const NAME: &str = "TIDINGS_ADMIN_TOKEN";
        const FILE: &str = "TIDINGS_ADMIN_TOKEN_FILE";
        let token = match (self.variables.get(NAME), self.variables.get(FILE)) {
            (Some(_), Some(_)) => {
                self.say(FILE, "TIDINGS_ADMIN_TOKEN is set, too", "set one of them");
                return None;
            }
            (Some(token), None) => token.to_owned(),
            (None, Some(path)) => match read_secret(Path::new(path)) {
                Ok(token) => token,
                Err(message) => {
                    self.say(FILE, &message, "a file with the token alone");
                    return None;
                }
            },
            (None, None) => return None,
        };
        if !is_admin_token(&token) {
            let message = format!("is no {ADMIN_TOKEN_BYTES_MIN} visible characters or more");
            self.say(NAME, &message, "make one with `openssl rand -hex 32`");
        }
        Some(token)
    }
}
