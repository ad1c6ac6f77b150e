//! What the targets and their first corpus share.
//!
//! | for                                             | open       |
//! |-------------------------------------------------|------------|
//! | how bytes become decisions                      | [`input`]  |
//! | a log on a simulated disk, and edits to it      | [`disk`]   |
//! | a log that nobody wrote, with sound checksums   | [`forge`]  |
//! | what an opening must keep to, whatever it meets | [`oracle`] |
//! | an index in files                               | [`index`]  |

pub mod disk;
pub mod forge;
pub mod index;
pub mod input;
pub mod oracle;
