//! MQTT topic filters (MQTT 5.0 section 4.7). Knows no session and no shared subscription: what
//! follows `$share/NAME/` is the filter.

use crate::matcher::BadPattern;
use crate::matcher::levels::Level;

/// A topic filter with `+` for one level and `#` for the parent and all levels below.
#[derive(Debug)]
pub struct MqttFilter(Box<str>);

impl MqttFilter {
    /// Reads a filter. It is at least one character long; `+` and `#` stand alone on their level,
    /// `#` only on the last; U+0000 is not allowed.
    pub fn parse(text: &str) -> Result<MqttFilter, BadPattern> {
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.contains('\0') {
            "it contains a null character"
        } else if text.split('/').any(|level| level.len() > 1 && level.contains(['+', '#'])) {
            "a wildcard must be alone on its level"
        } else if text.split('/').rev().skip(1).any(|level| level == "#") {
            "# must be the last level"
        } else {
            return Ok(MqttFilter(text.into()));
        };
        Err(BadPattern::Invalid { language: "MQTT topic filter", reason: reason.to_owned() })
    }

    /// Whether it matches the topic name. The empty text is no topic name.
    pub fn matches(&self, topic: &str) -> bool {
        let mut words = topic_levels(topic);
        let leading_wildcard = !matches!(self.levels().next(), Some(Level::Word(_)));
        if topic.is_empty() || (leading_wildcard && hides_from_wildcards(topic)) {
            return false;
        }
        for level in self.levels() {
            let fits = match (level, words.next()) {
                (Level::Rest, _) => return true,
                (Level::One, Some(_)) => true,
                (Level::Word(word), Some(found)) => word == found,
                (Level::One | Level::Word(_), None) => false,
            };
            if !fits {
                return false;
            }
        }
        words.next().is_none()
    }

    /// The filter's levels.
    pub(super) fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        topic_levels(&self.0).map(|level| match level {
            "+" => Level::One,
            "#" => Level::Rest,
            word => Level::Word(word),
        })
    }
}

/// The levels of a topic name; empty ones count.
pub(super) fn topic_levels(topic: &str) -> impl Iterator<Item = &str> {
    topic.split('/')
}

/// Topics that a wildcard on the first level does not match (section 4.7.2).
pub(super) fn hides_from_wildcards(topic: &str) -> bool {
    topic.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/tennis/player1/#", "sport/tennis/player2", false),
            ("sport/#", "sport", true),
            ("#", "a", true),
            ("#", "/", true),
            ("#", "", false),
            ("+", "", false),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("#", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/monitor/Clients", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("a/b", "a/B", false),
            ("a/b", "a/b/", false),
            ("+/#", "a", true),
            ("+/+/#", "a", false),
            ("a/$b/#", "a/$b", true),
            ("a/+", "a/$b", true),
        ] {
            let parsed = MqttFilter::parse(filter).unwrap();
            assert_eq!(parsed.matches(topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn wildcards_stand_alone_and_the_rest_stands_last() {
        for bad in ["", "a\0", "sport+", "sport/tennis#", "sport/#/ranking", "#/a", "++", "a/+b"] {
            assert!(MqttFilter::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["/", "+", "#", "+/tennis/#", "/#", "a//+"] {
            assert!(MqttFilter::parse(good).is_ok(), "{good:?}");
        }
    }
}
