//! HTML as text that is written from the front to the back. What is escaped is a matter of type: markup can only be a literal
//! of this program (`&'static str`), and everything else goes through [`Html::text`] or an attribute's value. So no text of
//! evidence can become markup or script.

use std::fmt::{self, Display, Write};

/// A document, or a part of one.
#[derive(Clone, Debug, Default)]
pub struct Html(String);

/// Escapes what it is given to write.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // What a parser of HTML would change, or a reader would not see: shown by its number.
                c if c.is_control() && c != '\n' => write!(self.0, "\\u{{{:x}}}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl Html {
    /// Markup that the program itself holds.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to memory cannot fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// Opens an element with these attributes.
    pub fn open(&mut self, name: &'static str, attributes: &[(&'static str, &dyn Display)]) -> &mut Self {
        self.raw("<").raw(name);
        for (name, value) in attributes {
            self.raw(" ").raw(name).raw("=\"").text(value).raw("\"");
        }
        self.raw(">")
    }

    /// Closes an element.
    pub fn close(&mut self, name: &'static str) -> &mut Self {
        self.raw("</").raw(name).raw(">")
    }

    /// An element of that class with what `inner` writes.
    pub fn within(&mut self, name: &'static str, class: &'static str, inner: impl FnOnce(&mut Self)) -> &mut Self {
        if class.is_empty() {
            self.open(name, &[]);
        } else {
            self.open(name, &[("class", &class)]);
        }
        inner(self);
        self.close(name)
    }

    /// An element of that class with text in it.
    pub fn element(&mut self, name: &'static str, class: &'static str, text: impl Display) -> &mut Self {
        self.within(name, class, |h| {
            h.text(text);
        })
    }

    /// A line feed, so that the source has lines.
    pub fn line(&mut self) -> &mut Self {
        self.raw("\n")
    }

    /// JSON in a block that no browser runs: `<`, `>` and `&` stand as escapes, so that nothing in it can end the block.
    pub fn json(&mut self, id: &'static str, value: &impl serde::Serialize) -> &mut Self {
        self.open("script", &[("type", &"application/json"), ("id", &id)]);
        for c in serde_json::to_string(value).unwrap_or_default().chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self.close("script")
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A count with its thousands apart: `1 234 567`, with spaces that do not break.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let nasty = "</script><img src=x onerror=\"a('b')\">&amp;\u{0}\r";
        let mut html = Html::default();
        html.open("p", &[("title", &nasty)]).text(nasty).close("p").json("data", &[nasty]);
        let html = html.finish();
        assert_eq!(html.matches('<').count(), 4, "{html}");
        let escaped = "&lt;/script&gt;&lt;img src=x onerror=&quot;a(&#39;b&#39;)&quot;&gt;&amp;amp;\\u{0}\\u{d}";
        assert!(html.contains(&format!("<p title=\"{escaped}\">{escaped}</p>")), "{html}");
        let data = html.split("application/json\" id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert_eq!(serde_json::from_str::<Vec<String>>(data).unwrap(), [nasty]);
    }

    #[test]
    fn counts_are_readable() {
        let check = |n, expect: &str| assert_eq!(Count(n).to_string().replace('\u{202f}', " "), expect);
        check(0, "0");
        check(999, "999");
        check(1_000, "1 000");
        check(1_234_567, "1 234 567");
    }
}
