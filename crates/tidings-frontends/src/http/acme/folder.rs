//! What is kept of ACME between starts: the account, the certificate with its key, and when orders
//! were begun. Each is one file for the owner only, replaced as a whole.
//!
//! Knows no server; what the files say is judged elsewhere.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::limits::CERTIFICATE_FILE_BYTES_MAX;

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
const ATTEMPTS: &str = "attempts.json";

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// An account, with the server that it is at.
#[derive(Serialize, Deserialize)]
struct Account {
    directory: String,
    credentials: AccountCredentials,
}

impl Folder {
    /// Opens a folder, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Folder(path.to_owned()))
    }

    /// The account at this server, if there is one.
    pub(super) fn account(&self, directory: &str) -> io::Result<Option<AccountCredentials>> {
        let Some(bytes) = self.read(ACCOUNT)? else { return Ok(None) };
        // What cannot be read is no account, and the next one replaces it.
        let account = serde_json::from_slice::<Account>(&bytes).ok();
        let here = account.filter(|account| account.directory == directory);
        Ok(here.map(|account| account.credentials))
    }

    /// Keeps an account.
    pub(super) fn keep_account(
        &self,
        directory: &str,
        credentials: AccountCredentials,
    ) -> io::Result<()> {
        let account = Account { directory: directory.to_owned(), credentials };
        self.write(ACCOUNT, &serde_json::to_vec(&account)?)
    }

    /// Forgets the account, which its server does not know any more.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        match std::fs::remove_file(self.0.join(ACCOUNT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Key and chain in one PEM text.
    pub(super) fn certificate(&self) -> io::Result<Option<Vec<u8>>> {
        self.read(CERTIFICATE)
    }

    /// Keeps key and chain, together or not at all.
    pub(super) fn keep_certificate(&self, pem: &str) -> io::Result<()> {
        self.write(CERTIFICATE, pem.as_bytes())
    }

    /// When orders were begun.
    pub(super) fn schedule(&self) -> io::Result<Schedule> {
        let bytes = self.read(ATTEMPTS)?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Keeps when orders were begun.
    pub(super) fn keep_schedule(&self, schedule: &Schedule) -> io::Result<()> {
        self.write(ATTEMPTS, &serde_json::to_vec(schedule)?)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.0.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(CERTIFICATE_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.0.join(format!("{name}.new"));
        // One that was left behind may have other rights.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, self.0.join(name))?;
        // The new name must survive as well.
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_the_owners_alone_and_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/acme");
        let folder = Folder::open(&path).unwrap();
        assert!(folder.certificate().unwrap().is_none());
        assert_eq!(folder.schedule().unwrap(), Schedule::default());
        std::fs::write(path.join("certificate.pem.new"), "left behind").unwrap();
        folder.keep_certificate("one").unwrap();
        folder.keep_certificate("two").unwrap();
        assert_eq!(folder.certificate().unwrap().unwrap(), b"two");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path.join("certificate.pem")), 0o600);
        assert_eq!(mode(&path), 0o700);
        let names = std::fs::read_dir(&path).unwrap().count();
        assert_eq!(names, 1, "nothing is left behind");
    }

    #[test]
    fn an_account_is_of_one_server_and_a_damaged_one_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let credentials = || {
            let (_, key) = instant_acme::Key::generate_pkcs8().unwrap();
            let key = base64::Engine::encode(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                key.secret_pkcs8_der(),
            );
            let text =
                format!(r#"{{"id":"https://a/1","key_pkcs8":"{key}","directory":"https://a"}}"#);
            serde_json::from_str::<AccountCredentials>(&text).unwrap()
        };
        folder.keep_account("https://a", credentials()).unwrap();
        assert!(folder.account("https://a").unwrap().is_some());
        assert!(folder.account("https://b").unwrap().is_none());
        std::fs::write(root.path().join(ACCOUNT), "{").unwrap();
        assert!(folder.account("https://a").unwrap().is_none());
        folder.forget_account().unwrap();
        folder.forget_account().unwrap();
    }
}
