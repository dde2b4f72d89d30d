//! What a request's body is, by its head. Knows no body.

use http::header::{self, HeaderMap};

use super::refusal::Refusal;

/// The type of forms.
pub(super) const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// Refuses bodies that are compressed or otherwise coded: nothing here undoes that.
pub(super) fn refuse_coded(headers: &HeaderMap) -> Result<(), Refusal> {
    let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|field| {
        let mut codings = field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
    });
    if plain { Ok(()) } else { Err(Refusal::Coded) }
}

/// Whether a body is a form by its headers. Parameters of the type are allowed and mean nothing.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(FORM_TYPE))
}
