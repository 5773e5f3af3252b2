//! JSON with a line for each value, as Go's `json.MarshalIndent` lays it out.
//! It must never change a value or the order of keys: the text inside is passed on as it is.

/// Lays compact JSON out with two spaces for each level.
pub fn pretty_json(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0usize;
    let mut is_in_text = false;
    let mut is_escaped = false;
    let mut bytes = compact.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if is_in_text {
            out.push(byte);
            is_in_text = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => {
                is_in_text = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                let close = if byte == b'{' { b'}' } else { b']' };
                if bytes.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
    }
    out
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', depth * 2));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_gets_a_line_and_texts_stay() {
        let compact = br#"{"a":[1,"x\",{}"],"b":{},"c":[ ],"d\\":{"e":null}}"#;
        let pretty = "{\n  \"a\": [\n    1,\n    \"x\\\",{}\"\n  ],\n  \"b\": {},\n  \"c\": [],\n  \"d\\\\\": {\n    \"e\": null\n  }\n}";
        assert_eq!(String::from_utf8(pretty_json(compact)).unwrap(), pretty);
    }
}
