//! Memory for secrets: pages of its own that are not swapped, not dumped, and wiped at the end.
//!
//! `mlock` is bounded by `RLIMIT_MEMLOCK` (8 MiB by default, a key takes 12 KiB). Beyond that the
//! pages are used all the same, and [`Secret::is_locked`] says so, for the operator to be told.
//!
//! Failures: where the system has no memory left, as for any allocation, the process ends.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};

/// Types of plain integers, for which all bits zero is a value.
///
/// # Safety
///
/// Every bit pattern is a value, and nothing needs to be dropped.
pub(crate) unsafe trait Plain: 'static {}

/// One value in pages of its own.
pub(crate) struct Secret<T: Plain> {
    place: NonNull<T>,
    is_locked: bool,
}

// SAFETY: `Secret` owns its pages as `Box` owns its allocation, and `T` is plain integers.
unsafe impl<T: Plain> Send for Secret<T> {}

// SAFETY: as for `Send`; a shared `Secret` gives out shared references only.
unsafe impl<T: Plain> Sync for Secret<T> {}

impl<T: Plain> Secret<T> {
    const BYTES: usize = size_of::<T>();

    /// Makes room, all zeros.
    pub(crate) fn zeroed() -> Self {
        const { assert!(align_of::<T>() <= PAGE_BYTES && size_of::<T>() > 0) };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so nothing that is mapped is touched.
        let mapped =
            unsafe { mmap_anonymous(std::ptr::null_mut(), Self::BYTES, access, MapFlags::PRIVATE) };
        let Some(place) = mapped.ok().and_then(|start| NonNull::new(start.cast::<T>())) else {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>());
        };
        // SAFETY: the range was just mapped and is ours; neither call changes what it holds.
        let is_locked = unsafe {
            let start = place.as_ptr().cast();
            // A kernel without this advice (before 3.4) still locks.
            let is_kept_out_of_dumps = madvise(start, Self::BYTES, Advice::LinuxDontDump).is_ok();
            mlock(start, Self::BYTES).is_ok() && is_kept_out_of_dumps
        };
        Self { place, is_locked }
    }

    /// Whether the pages are kept from swap and core dumps.
    pub(crate) fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Overwrites everything with zeros.
    pub(crate) fn wipe(&mut self) {
        let words = self.place.as_ptr().cast::<u8>();
        for offset in (0..Self::BYTES).step_by(64) {
            let line = (Self::BYTES - offset).min(64);
            // SAFETY: `offset + line <= BYTES`, all of it ours and writable; zeros are a value. The
            // write is volatile so that the optimiser may not find it useless.
            unsafe {
                if line == 64 {
                    words.add(offset).cast::<[u64; 8]>().write_volatile([0; 8]);
                } else {
                    (0..line).for_each(|byte| words.add(offset + byte).write_volatile(0));
                }
            }
        }
    }
}

impl<T: Plain> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped until drop, aligned to a page, and zeros or what was written are a value.
        unsafe { self.place.as_ref() }
    }
}

impl<T: Plain> DerefMut for Secret<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; `&mut self` makes it the only reference.
        unsafe { self.place.as_mut() }
    }
}

impl<T: Plain> Drop for Secret<T> {
    fn drop(&mut self) {
        self.wipe();
        // SAFETY: mapped by `zeroed` with this length, and not used again.
        // A failure would leave zeros mapped, which harms nobody.
        _ = unsafe { munmap(self.place.as_ptr().cast(), Self::BYTES) };
    }
}

/// Secret bytes of some length, in one page.
pub(crate) struct SecretBytes(Secret<Page>);

#[repr(C)]
struct Page {
    length: usize,
    bytes: [u8; SECRET_BYTES_MAX],
}

// SAFETY: plain integers.
unsafe impl Plain for Page {}

impl SecretBytes {
    /// Copies bytes; `None` where there are more than [`SECRET_BYTES_MAX`].
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut page = Secret::<Page>::zeroed();
        page.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        page.length = bytes.len();
        Some(Self(page))
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes[..self.0.length]
    }
}

/// What fits one page beside the length; a key of 4096 bits has 2.4 KiB.
pub(crate) const SECRET_BYTES_MAX: usize = PAGE_BYTES - size_of::<usize>();

/// The smallest page of any machine we run on.
const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stdout, reason = "a test says what it skips")]

    use super::*;

    struct Numbers([u64; 1000]);

    // SAFETY: plain integers.
    unsafe impl Plain for Numbers {}

    #[test]
    fn is_zero_then_kept_then_wiped() {
        let mut secret = Secret::<Numbers>::zeroed();
        assert!(secret.0.iter().all(|&word| word == 0));
        secret.0.fill(7);
        assert_eq!(secret.0[999], 7);
        secret.wipe();
        assert!(secret.0.iter().all(|&word| word == 0));
    }

    #[test]
    fn bytes_up_to_a_page() {
        for length in [0, 1, SECRET_BYTES_MAX] {
            let bytes = vec![3; length];
            assert_eq!(SecretBytes::copy_of(&bytes).as_deref(), Some(&bytes[..]));
        }
        assert!(SecretBytes::copy_of(&[0; SECRET_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn is_kept_from_swap_and_dumps() {
        let secret = Secret::<Numbers>::zeroed();
        if !secret.is_locked() {
            println!("skipped: RLIMIT_MEMLOCK is used up");
            return;
        }
        let start = std::ptr::from_ref::<Numbers>(&secret).addr();
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let mut lines = smaps.lines().skip_while(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds = range.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            });
            bounds.is_none_or(|(from, to)| !(from..to).contains(&start))
        });
        let flags = lines.find(|line| line.starts_with("VmFlags:")).expect("is mapped");
        assert!(flags.split(' ').any(|flag| flag == "dd"), "not in core dumps: {flags}");
        assert!(flags.split(' ').any(|flag| flag == "lo"), "locked: {flags}");
    }
}
