//! Two listings of one directory, side by side, as a comparison of snapshots walks them.
//! It must never lose an entry: each entry of either listing is given exactly once, even if a listing is unsound.

use std::cmp::Ordering;

/// What the two listings have under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair<'a, L, R> {
    /// Only the left listing has it: removed, if the right one is the newer.
    Left(&'a L),
    /// Only the right listing has it: added, if the right one is the newer.
    Right(&'a R),
    /// Both have it.
    Both(&'a L, &'a R),
}

/// Goes through two listings that are ordered by name, in the order of names.
///
/// The names are compared as bytes, as trees order them. In a listing that is out of order or names an entry twice,
/// entries of one name may come apart as a left and a right one.
pub fn merge<'a, L, R, FL, FR>(
    left: &'a [L],
    right: &'a [R],
    left_name: FL,
    right_name: FR,
) -> Merge<'a, L, R, FL, FR>
where
    FL: Fn(&L) -> &[u8],
    FR: Fn(&R) -> &[u8],
{
    Merge {
        left,
        right,
        left_name,
        right_name,
    }
}

/// What [`merge`] gives.
#[derive(Clone, Debug)]
pub struct Merge<'a, L, R, FL, FR> {
    left: &'a [L],
    right: &'a [R],
    left_name: FL,
    right_name: FR,
}

impl<'a, L, R, FL, FR> Iterator for Merge<'a, L, R, FL, FR>
where
    FL: Fn(&L) -> &[u8],
    FR: Fn(&R) -> &[u8],
{
    type Item = Pair<'a, L, R>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.first(), self.right.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => (self.left_name)(left).cmp((self.right_name)(right)),
        };
        let mut left = None;
        let mut right = None;
        if order.is_le() {
            left = self.left.split_off_first();
        }
        if order.is_ge() {
            right = self.right.split_off_first();
        }
        match (left, right) {
            (Some(left), Some(right)) => Some(Pair::Both(left, right)),
            (Some(left), None) => Some(Pair::Left(left)),
            (None, Some(right)) => Some(Pair::Right(right)),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn words(left: &[&str], right: &[&str]) -> Vec<String> {
        let pairs = merge(left, right, |name| name.as_bytes(), |name| name.as_bytes());
        let word = |pair: Pair<'_, &str, &str>| match pair {
            Pair::Left(name) => format!("-{name}"),
            Pair::Right(name) => format!("+{name}"),
            Pair::Both(name, _) => format!("={name}"),
        };
        pairs.map(word).collect()
    }

    #[test]
    fn each_side_is_told() {
        assert_eq!(
            words(&["a", "b", "d"], &["b", "c", "d", "e"]),
            ["-a", "=b", "+c", "=d", "+e"]
        );
        assert_eq!(words(&[], &[]), [""; 0]);
        assert_eq!(words(&["a"], &[]), ["-a"]);
        assert_eq!(words(&[], &["a"]), ["+a"]);
        assert_eq!(words(&["é"], &["z"]), ["+z", "-é"]);
    }

    #[test]
    fn the_sides_may_be_of_two_types() {
        let left = [(b"a".to_vec(), 1)];
        let right = ["a"];
        let mut pairs = merge(&left, &right, |(name, _)| name, |name| name.as_bytes());
        assert_eq!(pairs.next(), Some(Pair::Both(&left[0], &right[0])));
        assert_eq!(pairs.next(), None);
    }

    proptest! {
        #[test]
        fn sets_are_compared_as_sets(left: BTreeSet<Vec<u8>>, right: BTreeSet<Vec<u8>>) {
            let lefts: Vec<_> = left.iter().cloned().collect();
            let rights: Vec<_> = right.iter().cloned().collect();
            let pairs: Vec<_> = merge(&lefts, &rights, Vec::as_slice, Vec::as_slice).collect();
            let expected: Vec<_> = left
                .union(&right)
                .map(|name| match (left.get(name), right.get(name)) {
                    (Some(left), Some(right)) => Pair::Both(left, right),
                    (Some(left), None) => Pair::Left(left),
                    (_, _) => Pair::Right(name),
                })
                .collect();
            prop_assert_eq!(pairs, expected);
        }

        #[test]
        fn no_entry_is_lost_or_doubled_in_unsound_listings(
            left in proptest::collection::vec("[abc]", 0..8),
            right in proptest::collection::vec("[abc]", 0..8),
        ) {
            let mut lefts = Vec::new();
            let mut rights = Vec::new();
            for pair in merge(&left, &right, String::as_bytes, String::as_bytes) {
                if let Pair::Left(one) | Pair::Both(one, _) = pair {
                    lefts.push(one.clone());
                }
                if let Pair::Right(one) | Pair::Both(_, one) = pair {
                    rights.push(one.clone());
                }
                if let Pair::Both(one, other) = pair {
                    prop_assert_eq!(one, other);
                }
            }
            prop_assert_eq!(lefts, left);
            prop_assert_eq!(rights, right);
        }
    }
}
