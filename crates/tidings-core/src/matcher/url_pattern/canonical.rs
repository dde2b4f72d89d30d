//! Encodes fixed text of a component as a URL would carry it ("Encoding callbacks" of the URL
//! Pattern Standard), so that patterns and URLs meet in one spelling.

use url::Url;
use url::quirks;

use crate::matcher::url_pattern::parts::Section;

/// `text` as it stands in that component of a parsed URL: ASCII only. Errors say what is wrong.
pub(super) fn encode(text: &str, section: Section) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let refused = |what: &str| format!("{text:?} cannot stand in a {what}");
    match section {
        Section::Protocol => Url::parse(&format!("{text}://dummy.test"))
            .map(|url| url.scheme().to_owned())
            .map_err(|_| refused("scheme")),
        Section::Username => {
            let mut url = dummy("http://dummy.test")?;
            url.set_username(text).map_err(|()| refused("user name"))?;
            Ok(url.username().to_owned())
        }
        Section::Password => {
            let mut url = dummy("http://dummy.test")?;
            url.set_password(Some(text)).map_err(|()| refused("password"))?;
            Ok(url.password().unwrap_or_default().to_owned())
        }
        Section::Hostname => {
            // A host ends where the URL parser ends it, even in the middle of a group.
            let text = text.split(['/', '?', '#', '\\']).next().unwrap_or_default();
            if text.is_empty() {
                return Ok(String::new());
            }
            let mut url = dummy("http://dummy.test")?;
            quirks::set_hostname(&mut url, text).map_err(|()| refused("host"))?;
            Ok(quirks::hostname(&url).to_owned())
        }
        Section::Address => {
            let valid = |byte: u8| byte.is_ascii_hexdigit() || b"[]:".contains(&byte);
            let valid = text.bytes().all(valid);
            valid.then(|| text.to_ascii_lowercase()).ok_or_else(|| refused("host"))
        }
        Section::Port => {
            let mut url = dummy("dummy://dummy.test")?;
            quirks::set_port(&mut url, text).map_err(|()| refused("port"))?;
            Ok(quirks::port(&url).to_owned())
        }
        Section::Pathname => path(text),
        Section::OpaquePathname => Ok(opaque_path(text)),
        Section::Search | Section::OpaqueSearch => {
            let special = section == Section::Search;
            let mut url = dummy(if special { "http://dummy.test" } else { "dummy://dummy.test" })?;
            url.set_query(Some(text));
            Ok(url.query().unwrap_or_default().to_owned())
        }
        Section::Hash => {
            let mut url = dummy("http://dummy.test")?;
            url.set_fragment(Some(text));
            Ok(url.fragment().unwrap_or_default().to_owned())
        }
    }
}

/// Pieces of a path need not begin with a slash; without something between, the URL parser would
/// take a leading dot for a dot segment.
fn path(text: &str) -> Result<String, String> {
    let mut url = dummy("http://dummy.test")?;
    if text.starts_with('/') {
        url.set_path(text);
        return Ok(url.path().to_owned());
    }
    url.set_path(&format!("/-{text}"));
    let path = url.path().strip_prefix("/-");
    path.map(str::to_owned).ok_or_else(|| "a .. leads out of the fixed text of a path".to_owned())
}

/// Percent-encodes what is not printable ASCII, and takes out what URL parsers do.
fn opaque_path(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\t' | b'\r' | b'\n' => {}
            b' '..=b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn dummy(url: &str) -> Result<Url, String> {
    Url::parse(url).map_err(|error| error.to_string())
}
