//! Shadowtap's daemon as a library, for its tests.
