//! Directives as the Mercure hub's image takes them: words, quotes, blocks and placeholders of a
//! Caddyfile. Knows no directive.

use crate::limits::DIRECTIVE_DEPTH_MAX;

/// One directive: its words, and the directives of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// Counted from 1.
    pub(super) line: usize,
    /// The name and its arguments; at least the name.
    pub(super) words: Vec<String>,
    pub(super) block: Vec<Directive>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// Why a text is not a list of directives. Never repeats the text, which may hold keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadDirectives {
    pub(super) line: usize,
    pub(super) message: &'static str,
}

/// Looks up an environment variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads directives. `{$NAME}`, `{$NAME:default}` and `{env.NAME}` stand for variables.
pub(super) fn parse(text: &str, lookup: Lookup<'_>) -> Result<Vec<Directive>, BadDirectives> {
    let words = words(&expand(text, lookup))?;
    let mut lines = Lines { words: words.into_iter().peekable(), lookup };
    lines.block(0, 1)
}

/// Replaces `{$NAME}` and `{$NAME:default}` as text, before words are told apart.
fn expand(text: &str, lookup: Lookup<'_>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{$") {
        expanded.push_str(before);
        let Some((inside, after)) = behind.split_once('}') else {
            expanded.push_str("{$");
            rest = behind;
            continue;
        };
        let (name, default) = inside.split_once(':').unwrap_or((inside, ""));
        expanded.push_str(&lookup(name).unwrap_or_else(|| default.to_owned()));
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

struct Word {
    line: usize,
    text: String,
    quoted: bool,
}

/// Words in the manner of the Caddyfile: double quotes with `\"`, backquotes, comments from `#`
/// at the beginning of a word, and a backslash that continues a line.
fn words(text: &str) -> Result<Vec<Word>, BadDirectives> {
    let mut found = Vec::new();
    // The line as it counts for directives: a continued line is one.
    let (mut line, mut continued) = (1, 0);
    let mut characters = text.chars().peekable();
    while let Some(&next) = characters.peek() {
        match next {
            '\n' => {
                characters.next();
                line += 1 + std::mem::take(&mut continued);
            }
            '#' => while characters.next_if(|c| *c != '\n').is_some() {},
            '"' | '`' => {
                characters.next();
                let begin = line;
                let mut word = String::new();
                loop {
                    match characters.next() {
                        None => {
                            let message = "a quote is not closed";
                            return Err(BadDirectives { line: begin, message });
                        }
                        Some(c) if c == next => break,
                        Some('\\') if next == '"' && characters.peek() == Some(&'"') => {
                            characters.next();
                            word.push('"');
                        }
                        Some(c) => {
                            // Counted once the directive's own line has ended.
                            continued += usize::from(c == '\n');
                            word.push(c);
                        }
                    }
                }
                found.push(Word { line: begin, text: word, quoted: true });
            }
            space if space.is_whitespace() => {
                characters.next();
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = characters.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
                if word == "\\" && characters.peek() == Some(&'\n') {
                    characters.next();
                    continued += 1;
                } else {
                    found.push(Word { line, text: word, quoted: false });
                }
            }
        }
    }
    Ok(found)
}

struct Lines<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    lookup: Lookup<'a>,
}

impl Lines<'_> {
    /// Directives up to the end of the block that was `opened` on a line, or of the text at depth 0.
    fn block(&mut self, depth: usize, opened: usize) -> Result<Vec<Directive>, BadDirectives> {
        let mut directives = Vec::new();
        while let Some(word) = self.words.next() {
            let wrong = |message| Err(BadDirectives { line: word.line, message });
            match (word.text.as_str(), word.quoted) {
                ("}", false) if depth > 0 => return Ok(directives),
                ("}", false) => return wrong("a block is closed that was not opened"),
                ("{", false) => return wrong("a block has no directive before it"),
                _ => directives.push(self.directive(word, depth)?),
            }
        }
        if depth > 0 {
            return Err(BadDirectives { line: opened, message: "a block is not closed" });
        }
        Ok(directives)
    }

    fn directive(&mut self, first: Word, depth: usize) -> Result<Directive, BadDirectives> {
        let line = first.line;
        let mut words = vec![self.filled(first.text)];
        let mut block = Vec::new();
        while let Some(word) = self.words.next_if(|word| word.line == line) {
            if word.text == "{" && !word.quoted {
                if depth >= DIRECTIVE_DEPTH_MAX {
                    return Err(BadDirectives { line, message: "blocks are nested too deep" });
                }
                block = self.block(depth + 1, line)?;
                break;
            }
            if word.text == "}" && !word.quoted {
                return Err(BadDirectives { line, message: "`}` belongs on a line of its own" });
            }
            words.push(self.filled(word.text));
        }
        Ok(Directive { line, words, block })
    }

    /// With `{env.NAME}` replaced by the variable's value.
    fn filled(&self, word: String) -> String {
        let Some((before, rest)) = word.split_once("{env.") else { return word };
        let Some((name, after)) = rest.split_once('}') else { return word };
        format!("{before}{}{after}", (self.lookup)(name).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, BadDirectives> {
        parse(text, &|name| (name == "KEY").then(|| "secret of two words".to_owned()))
    }

    fn words(text: &str) -> Vec<Vec<String>> {
        read(text).unwrap().into_iter().map(|directive| directive.words).collect()
    }

    #[test]
    fn words_quotes_comments_and_continued_lines_are_read() {
        let text = "# all\nanonymous\n\n cors_origins a \\\n  b # not c\nx \"a \\\"b\" `c \"d`\n";
        assert_eq!(
            words(text),
            [vec!["anonymous"], vec!["cors_origins", "a", "b"], vec!["x", "a \"b", "c \"d"]]
        );
        assert_eq!(read("a\n\nb \"x\ny\" z\nc").unwrap()[2].line, 5);
        assert_eq!(words("a \"x\ny\" z")[0], ["a", "x\ny", "z"]);
    }

    #[test]
    fn blocks_are_nested() {
        let text = "issuer x {\n publisher {\n  jwt k\n }\n}\nanonymous";
        let read = read(text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].block[0].block[0].words, ["jwt", "k"]);
        assert_eq!(read[0].block[0].block[0].line, 3);
    }

    #[test]
    fn placeholders_stand_for_variables() {
        assert_eq!(words("a {$KEY}")[0], ["a", "secret", "of", "two", "words"]);
        assert_eq!(words("a {env.KEY}")[0], ["a", "secret of two words"]);
        assert_eq!(words("a {$NONE:b c} {$NONE}x")[0], ["a", "b", "c", "x"]);
    }

    #[test]
    fn broken_blocks_and_quotes_are_refused_at_their_line() {
        for (text, line) in [
            ("a\nb {", 2),
            ("a\n}", 2),
            ("\n{\n}", 2),
            ("a \"b", 1),
            ("a { b }", 1),
            (&"a {\n".repeat(100), 9),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a{}\"`#\\\\ \n$:.]{0,60}") {
            let _ = read(&text);
        }
    }
}
