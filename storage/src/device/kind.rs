//! The devices there are for a real file system, by name.

use std::fmt;
use std::str::FromStr;

/// A way to bring the log's groups to a real disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// Through the page cache: `pwritev`, then `fdatasync`. Works on every file system.
    Buffered,
    /// Past the page cache: `O_DIRECT` and `pwritev2(RWF_DSYNC)`.
    Direct,
    /// As [`Self::Direct`], submitted through an io_uring. Needs the cargo feature `uring`.
    #[cfg(feature = "uring")]
    Uring,
}

impl DeviceKind {
    /// All that this build has.
    pub const ALL: &'static [Self] = &[
        Self::Buffered,
        Self::Direct,
        #[cfg(feature = "uring")]
        Self::Uring,
    ];

    /// What it is called in configurations and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Direct => "direct",
            #[cfg(feature = "uring")]
            Self::Uring => "uring",
        }
    }
}

/// Which device a directory gives its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// What the latest calibration of the directory chose, [`DeviceKind::Buffered`] before the first.
    #[default]
    Auto,
    /// Always the same.
    Fixed(DeviceKind),
}

/// A name that stands for no device of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceNameError {
    /// There is such a device, but this build was made without it.
    #[error("`{name}` is not part of this build: it needs the cargo feature `{feature}` of skylark-storage")]
    NotBuilt {
        /// The device.
        name: &'static str,
        /// What brings it.
        feature: &'static str,
    },
    /// There is no such device.
    #[error("`{name}` is not one of auto, buffered, direct, uring")]
    Unknown {
        /// What was asked for.
        name: String,
    },
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = DeviceNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match Self::ALL.iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(*kind),
            None if name == "uring" => Err(DeviceNameError::NotBuilt { name: "uring", feature: "uring" }),
            None => Err(DeviceNameError::Unknown { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name == "auto" { Ok(Self::Auto) } else { name.parse().map(Self::Fixed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_they_are_shown_as() {
        for kind in DeviceKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
            assert_eq!(kind.to_string().parse(), Ok(DeviceChoice::Fixed(*kind)));
        }
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!(DeviceChoice::Auto.to_string(), "auto");
    }

    #[test]
    fn a_name_of_no_device_says_what_there_is() {
        let unknown = "Direct".parse::<DeviceChoice>().unwrap_err();
        assert!(unknown.to_string().contains("auto, buffered, direct, uring"), "{unknown}");
        #[cfg(not(feature = "uring"))]
        assert!("uring".parse::<DeviceKind>().unwrap_err().to_string().contains("cargo feature `uring`"));
    }
}
