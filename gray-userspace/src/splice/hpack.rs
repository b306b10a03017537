//! The fields of one HTTP/2 field block, the first of its connection (HPACK, RFC 7541). Allocates no more than the block asks for and a
//! table of 4 kB; who is told of the fields ends it when it has enough.

mod huffman;
mod tables;

use std::{borrow::Cow, collections::VecDeque};

use tables::FIELDS;

/// What a table may hold before the server says otherwise (RFC 9113, 6.5.2), and what an entry of it costs beside its text.
const TABLE: usize = 4096;
const ENTRY: usize = 32;
/// Bytes of a number behind its first.
const NUMBER: u32 = 4;

/// It cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad;

/// Tells `f` of each field, name and value, in their order.
///
/// # Errors
/// The block's, and what `f` ends with.
pub fn fields<E: From<Bad>>(block: &[u8], mut f: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
    let (mut rest, mut table) = (Rest(block), Table { size: 0, most: TABLE, entries: VecDeque::new() });
    let mut begins = true;
    while let Some(first) = rest.0.first().copied() {
        if first >> 5 == 1 {
            // Only before the first field (4.2), and there must be one.
            let most = rest.number(5)?;
            if !begins || most > TABLE || rest.0.is_empty() {
                return Err(Bad.into());
            }
            table.most = most;
            table.evict();
            continue;
        }
        begins = false;
        if first & 0x80 != 0 {
            let (name, value) = table.get(rest.number(7)?)?;
            f(name, value)?;
            continue;
        }
        let kept = first & 0x40 != 0;
        let name = match rest.number(if kept { 6 } else { 4 })? {
            0 => rest.string()?,
            index => Cow::Owned(table.get(index)?.0.to_vec()),
        };
        let value = rest.string()?;
        f(&name, &value)?;
        if kept {
            table.add(name.into_owned(), value.into_owned());
        }
    }
    Ok(())
}

/// What is left of the block.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// A number in the low `bits` of the first byte, and behind it (5.1).
    fn number(&mut self, bits: u32) -> Result<usize, Bad> {
        let (first, mut rest) = self.0.split_first().ok_or(Bad)?;
        let most = (1usize << bits) - 1;
        let mut n = usize::from(*first) & most;
        if n == most {
            for i in 0.. {
                let (byte, behind) = rest.split_first().ok_or(Bad)?;
                rest = behind;
                if i == NUMBER {
                    return Err(Bad);
                }
                n += usize::from(byte & 0x7f) << (7 * i);
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        self.0 = rest;
        Ok(n)
    }

    /// 5.2
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Bad> {
        let coded = self.0.first().is_some_and(|b| b & 0x80 != 0);
        let len = self.number(7)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Bad)?;
        self.0 = rest;
        if coded { Ok(Cow::Owned(huffman::decode(text).ok_or(Bad)?)) } else { Ok(Cow::Borrowed(text)) }
    }
}

/// Fields of before, the latest first, behind those that everybody knows (2.3).
struct Table {
    size: usize,
    most: usize,
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
}

impl Table {
    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Bad> {
        let at = index.checked_sub(1).ok_or(Bad)?;
        if let Some((name, value)) = FIELDS.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.entries.get(at - FIELDS.len()).ok_or(Bad)?;
        Ok((&name[..], &value[..]))
    }

    fn add(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.size += name.len() + value.len() + ENTRY;
        self.entries.push_front((name, value));
        self.evict();
    }

    /// The oldest go, all of them if one entry is larger than the table (4.4).
    fn evict(&mut self) {
        while self.size > self.most
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.size -= name.len() + value.len() + ENTRY;
        }
    }
}

#[cfg(test)]
#[path = "hpack_tests.rs"]
mod tests;
