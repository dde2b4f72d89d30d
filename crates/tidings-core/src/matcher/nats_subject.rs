//! stub
use super::BadPattern;
/// stub
#[derive(Debug)]
pub struct NatsSubject(String);
impl NatsSubject {
    /// stub
    pub fn parse(p: &str) -> Result<NatsSubject, BadPattern> {
        Ok(NatsSubject(p.into()))
    }
    /// stub
    pub fn matches(&self, t: &str) -> bool {
        self.0 == t
    }
}
