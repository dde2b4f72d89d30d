//! stub
use super::BadPattern;
/// stub
#[derive(Debug)]
pub struct MqttFilter(String);
impl MqttFilter {
    /// stub
    pub fn parse(p: &str) -> Result<MqttFilter, BadPattern> {
        Ok(MqttFilter(p.into()))
    }
    /// stub
    pub fn matches(&self, t: &str) -> bool {
        self.0 == t
    }
}
