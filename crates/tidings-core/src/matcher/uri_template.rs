//! stub
/// stub
#[derive(Debug)]
pub struct UriTemplate;
impl UriTemplate {
    /// stub
    pub fn parse(_: &str) -> Option<UriTemplate> {
        None
    }
    /// stub
    pub fn matches(&self, _: &str) -> bool {
        false
    }
}
