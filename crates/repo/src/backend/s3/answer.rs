//! The XML that an S3 server answers, as a tree of names and texts.
//! It must never take half a document for a whole one.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// How deep a document may go; S3's go four deep.
const DEPTH_MAX: usize = 16;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The root of a document; nothing if it is no XML, or not whole.
    pub(super) fn parse(document: &[u8]) -> Option<Self> {
        let document = std::str::from_utf8(document).ok()?;
        let mut reader = Reader::from_str(document);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) if open.len() < DEPTH_MAX && root.is_none() => {
                    open.push(Self::named(start.local_name().as_ref()));
                }
                Event::Start(_) => return None,
                Event::Empty(empty) => {
                    let element = Self::named(empty.local_name().as_ref());
                    close(element, &mut open, &mut root)?;
                }
                Event::End(_) => {
                    let element = open.pop()?;
                    close(element, &mut open, &mut root)?;
                }
                Event::Text(text) => append(&mut open, &text.xml10_content()),
                Event::CData(text) => append(&mut open, &text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().ok()?;
                    match character {
                        Some(character) => append(&mut open, character.encode_utf8(&mut [0; 4])),
                        None => {
                            let name = reference.xml10_content();
                            append(&mut open, resolve_predefined_entity(&name)?);
                        }
                    }
                }
                Event::Eof => return root.filter(|_| open.is_empty()),
                _ => {}
            }
        }
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Its name without a name space.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// All children of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of a name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.children.iter().find(|child| child.name == name);
        found.map(|child| child.text.as_str())
    }

    /// The text of a child, decoded if this listing encodes its names: a blank may have become a plus.
    pub(super) fn decoded(&self, name: &str, is_encoded: bool) -> Option<String> {
        let text = self.text(name)?;
        if !is_encoded {
            return Some(text.to_owned());
        }
        let text = text.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
        decoded.ok().map(std::borrow::Cow::into_owned)
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) -> Option<()> {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_none() => *root = Some(element),
        None => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_with_their_entities() {
        let document = b"<?xml version=\"1.0\"?>\n<Error xmlns=\"http://x/\"><Code>A&amp;B&#x20;&lt;</Code><Empty/>\
            <Key>a+b%2Bc</Key></Error>";
        let root = Element::parse(document).unwrap();
        assert_eq!(root.name(), "Error");
        assert_eq!(root.text("Code"), Some("A&B <"));
        assert_eq!(root.text("Empty"), Some(""));
        assert_eq!(root.text("None"), None);
        assert_eq!(root.decoded("Key", true).as_deref(), Some("a b+c"));
        assert_eq!(root.decoded("Key", false).as_deref(), Some("a+b%2Bc"));
    }

    #[test]
    fn half_a_document_is_none() {
        for document in [
            "",
            "<a>",
            "<a><b></b>",
            "<a></b>",
            "<a/><b/>",
            "<a>&unknown;</a>",
            "{\"json\": true}",
            "\u{fffd}",
            &"<a>".repeat(1000),
        ] {
            assert_eq!(Element::parse(document.as_bytes()), None, "{document}");
        }
        assert_eq!(Element::parse(b"<a>\xff</a>"), None);
    }
}
