//! The level of the log as people write it. The filter takes any word for a part of the program, so
//! that a misspelled level would silence the log; here every directive has to name a level.

use tidings_connectors::nearest::nearest;
use tracing_subscriber::EnvFilter;

/// The levels that the hints offer.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Checks a level.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about where it stands, and a hint.
pub(crate) fn check(text: &str) -> Result<(), (String, String)> {
    for directive in directives(text) {
        if directive.is_empty() {
            continue;
        }
        // Spans and their fields stand in brackets, where an equals sign means something else.
        let (spans, rest) = match directive.rfind([']', '}']) {
            Some(at) => (true, directive.get(at + 1..).unwrap_or_default()),
            None => (false, directive),
        };
        let level = match rest.rsplit_once('=') {
            Some((_, level)) => level,
            None if spans && rest.is_empty() => continue,
            None => rest,
        };
        if !is_level(level) {
            let hint = match nearest(level, LEVELS) {
                Some(near) => format!("did you mean {near:?}? It takes {}", LEVELS.join(", ")),
                None => {
                    format!("it takes {}, as in \"info,tidings_core=debug\"", LEVELS.join(", "))
                }
            };
            return Err(("names a level that does not exist".to_owned(), hint));
        }
    }
    EnvFilter::try_new(text)
        .map(drop)
        .map_err(|error| (format!("is no filter: {error}"), "as in \"info\"".to_owned()))
}

/// The parts between commas, except for commas between the fields of a span.
fn directives(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|character| {
        match character {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn is_level(word: &str) -> bool {
    word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok() && !word.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_with_levels_are_taken() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,tidings_core=debug",
            "tidings::app=trace,error",
            "info,[span{a=1}]=debug",
            "tidings[span]=warn",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn words_that_are_no_level_are_refused_with_the_nearest() {
        for (text, near) in [
            ("inof", "\"info\""),
            ("info,tidings_core=debgu", "\"debug\""),
            ("wran", "\"warn\""),
            ("verbose", "error, warn, info, debug, trace"),
            ("info,tidings_core", "as in \"info,tidings_core=debug\""),
            ("tidings_core=", "error, warn"),
        ] {
            let (_, hint) = check(text).expect_err(text);
            assert!(hint.contains(near), "{text}: {hint}");
        }
    }
}
