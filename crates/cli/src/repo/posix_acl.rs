//! A POSIX access control list of Linux as text, which archives hold.
//! It must never give a text that says less than the list.

/// The list as lines of `tag:id:permissions`, with numbers for users and groups; none if it is not of a known form.
///
/// The binary form is that of `linux/posix_acl_xattr.h`: version 2, then tag, permissions and ID of each entry.
pub fn acl_text(acl: &[u8]) -> Option<String> {
    let (version, entries) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::with_capacity(entries.len() * 2);
    for entry in entries.chunks_exact(8) {
        let [tag_low, tag_high, bits_low, bits_high, id @ ..] = entry.first_chunk::<8>()?;
        let (tag, bits) = (
            u16::from_le_bytes([*tag_low, *tag_high]),
            u16::from_le_bytes([*bits_low, *bits_high]),
        );
        let id = u32::from_le_bytes(*id);
        match tag {
            0x01 => text.push_str("user::"),
            0x02 => text.push_str(&format!("user:{id}:")),
            0x04 => text.push_str("group::"),
            0x08 => text.push_str(&format!("group:{id}:")),
            0x10 => text.push_str("mask::"),
            0x20 => text.push_str("other::"),
            _ => return None,
        }
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if bits & bit != 0 { letter } else { '-' });
        }
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_text_and_what_is_none_does_not() {
        let mut acl = vec![2, 0, 0, 0];
        acl.extend([1, 0, 7, 0, 255, 255, 255, 255]);
        acl.extend([2, 0, 5, 0, 0xe8, 3, 0, 0]);
        acl.extend([0x20, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(
            acl_text(&acl).as_deref(),
            Some("user::rwx\nuser:1000:r-x\nother::---\n")
        );
        assert_eq!(acl_text(&acl[..10]), None);
        assert_eq!(acl_text(&[1, 0, 0, 0]), None);
        assert_eq!(acl_text(b""), None);
    }
}
