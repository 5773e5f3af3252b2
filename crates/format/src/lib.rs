//! The restic repository format: identifiers, cryptography, blobs, packs, index, trees, snapshots.
