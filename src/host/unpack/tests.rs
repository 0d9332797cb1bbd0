//! Every format as the programs of the same names write it, whole and damaged.
#![allow(clippy::disallowed_methods, reason = "tests start the compressors")]

use super::*;
use std::io::Write;
use std::process::{Command, Stdio};

const FORMATS: [(&str, Packing); 4] =
    [("gzip", Packing::Gzip), ("xz", Packing::Xz), ("zstd", Packing::Zstd), ("bzip2", Packing::Bzip2)];

/// What a compressor of this host makes of some bytes.
fn packed(program: &str, more: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("{program} is needed: {why}"));
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&bytes));
    let out = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(out.status.success(), "{program}");
    out.stdout
}

fn lines(from: u32, n: u32) -> Vec<u8> {
    (from..from + n).flat_map(|n| format!("line {n} {}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect()
}

fn unpacked(packed: Vec<u8>) -> (Vec<u8>, io::Result<usize>) {
    let mut reader = Unpacked::new(Packing::of(&packed), io::Cursor::new(packed));
    let mut out = Vec::new();
    let end = reader.read_to_end(&mut out);
    (out, end)
}

#[test]
fn every_format_gives_what_was_packed_and_tells_how_far_it_is() {
    for (program, packing) in FORMATS {
        for text in [Vec::new(), b"one\n".to_vec(), lines(0, 60_000)] {
            let packed = packed(program, &[], &text);
            assert_eq!(Packing::of(&packed), packing, "{program}");
            let size = packed.len() as u64;
            let mut reader = Unpacked::new(packing, io::Cursor::new(packed));
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap_or_else(|why| panic!("{program}: {why}"));
            assert!(out == text, "{program}: {} bytes of {}", out.len(), text.len());
            assert_eq!(reader.consumed(), size, "{program}");
        }
    }
}

#[test]
fn members_in_a_row_are_one_log_at_every_level() {
    for (program, levels) in [
        ("gzip", vec!["-1", "-9"]),
        ("xz", vec!["-0", "-9"]),
        ("zstd", vec!["-1", "-19", "--long=27"]),
        ("bzip2", vec!["-1", "-9"]),
    ] {
        let (mut file, mut text) = (Vec::new(), Vec::new());
        for (n, level) in levels.iter().enumerate() {
            let part = lines(n as u32 * 1000, 1000);
            file.extend(packed(program, &[level], &part));
            text.extend(part);
        }
        let (out, end) = unpacked(file);
        assert!(end.is_ok() && out == text, "{program}: {end:?}, {} bytes of {}", out.len(), text.len());
    }
}

#[test]
fn frames_of_zstd_that_say_nothing_are_skipped() {
    let mut file = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3].to_vec();
    file.extend(packed("zstd", &[], b"a\n"));
    file.extend([0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    file.extend(packed("zstd", &["--no-check"], b"b\n"));
    assert_eq!(unpacked(file.clone()).0, b"a\nb\n");
    file.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1]);
    assert!(is_damage(&unpacked(file).1.unwrap_err()));
}

#[test]
fn damage_is_told_from_a_disk_that_cannot_be_read() {
    struct Breaks(io::Cursor<Vec<u8>>);
    impl Read for Breaks {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::Error::from_raw_os_error(5)),
                n => Ok(n),
            }
        }
    }
    let text = lines(0, 20_000);
    for (program, packing) in FORMATS {
        let whole = packed(program, &[], &text);
        for cut in [whole.len() - 1, whole.len() / 2, 7] {
            let (out, end) = unpacked(whole.get(..cut).unwrap().to_vec());
            assert!(is_damage(&end.unwrap_err()) && text.starts_with(&out), "{program} cut at {cut}");
            let mut reader = Unpacked::new(packing, Breaks(io::Cursor::new(whole.get(..cut).unwrap().to_vec())));
            let why = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert!(!is_damage(&why) && why.raw_os_error() == Some(5), "{program} cut at {cut}: {why:?}");
        }
        let mut bent = whole.clone();
        *bent.get_mut(whole.len() / 2).unwrap() ^= 0x55;
        assert!(is_damage(&unpacked(bent).1.unwrap_err()), "{program}: a wrong byte went unseen");
        let mut more = whole.clone();
        more.extend(b"\x01rest that is no member");
        // What follows is damage at worst; what was packed is out by then.
        assert!(unpacked(more).0 == text, "{program}: lines before a rest that is no member");
    }
}

#[test]
fn what_no_log_unpacks_to_is_refused_and_what_gzip_can_do_is_not() {
    let given = |file: Vec<u8>| {
        let mut reader = Unpacked::new(Packing::of(&file), io::Cursor::new(file));
        let (mut buf, mut given) = (vec![0; 1 << 20], 0);
        loop {
            match reader.read(&mut buf) {
                Ok(0) => return (given, None),
                Ok(n) => given += n as u64,
                Err(why) => return (given, Some(why)),
            }
        }
    };
    let zeros = vec![0; 16 << 20];
    // 16 GiB from 8 MB, and a little more than a GiB.
    let (most, end) = given(packed("zstd", &["--no-check"], &zeros).repeat(1024));
    assert!(is_damage(&end.unwrap()) && most < MAX_GIVEN + (16 << 20), "{most}");
    let (all, end) = given(packed("gzip", &["-9"], &zeros).repeat(66));
    assert!(end.is_none() && all == 66 << 24 && all > MAX_GIVEN, "{all} {end:?}");
}
