//! A shadow that costs next to nothing, for benchmarks: it answers each TCP segment to its port from
//! what stands in that segment, at TC ingress, and remembers nothing. No socket, no process.
//!
//! It acknowledges everything, answers a segment that begins with `GET ` or `PUT ` with a page, before the
//! request's content if it has any, and FIN with FIN. It knows no loss: an answer that gets lost is made
//! again when the request is.
//!
//! `empty` is what a program costs that does nothing.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "`#[classifier]` leaves the doc comments on a function inside")]

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use bytemuck::{Pod, Zeroable};

/// "Go on with the next program."
const NEXT: i32 = -1;
/// The port that is answered: discard, RFC 863.
const PORT: [u8; 2] = 9_u16.to_be_bytes();

const FIN: u8 = 1;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;
const PSH: u8 = 1 << 3;
const ACK: u8 = 1 << 4;

const IP: usize = 14;
const TCP: usize = IP + 20;
const DATA: usize = TCP + 20;

/// Maximum segment size 1,460, window scale 7.
static SYN_OPTIONS: [u8; 8] = [2, 4, 0x05, 0xb4, 1, 3, 3, 7];
const HEAD: &[u8; 40] = b"HTTP/1.1 200 OK\r\nContent-Length:1024\r\n\r\n";
const PAGE_LEN: usize = HEAD.len() + 1_024;
static PAGE: [u8; PAGE_LEN] = page();
const PAGE_SUM: u32 = sum(&page());
const OPTIONS_SUM: u32 = 0x0204 + 0x05b4 + 0x0103 + 0x0307;

/// How many requests were answered, and octets of payload acknowledged.
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Headers {
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    protocol: [u8; 2],
    version_ihl: u8,
    tos: u8,
    total_length: [u8; 2],
    id: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    ip_protocol: u8,
    ip_checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    seq: [u8; 4],
    ack: [u8; 4],
    data_offset: u8,
    flags: u8,
    window: [u8; 2],
    checksum: [u8; 2],
    urgent: [u8; 2],
}

/// Does nothing.
#[classifier]
pub fn empty(_ctx: TcContext) -> i32 {
    NEXT
}

/// The sink. What is not for its port goes on.
#[classifier]
pub fn sink(ctx: TcContext) -> i32 {
    answer(&ctx).unwrap_or(NEXT)
}

#[inline(always)]
fn answer(ctx: &TcContext) -> Option<i32> {
    let mut it: Headers = ctx.load(0).ok()?;
    let is_ours = it.protocol == [8, 0]
        && it.version_ihl == 0x45
        && it.ip_protocol == 6
        && it.destination_port == PORT;
    if !is_ours {
        return None;
    }
    const SHOT: Option<i32> = Some(TC_ACT_SHOT);
    let offset = usize::from(it.data_offset >> 4) * 4;
    let len = usize::from(u16::from_be_bytes(it.total_length)).checked_sub(20 + offset)?;
    let flags = it.flags;
    if flags & RST != 0 || (len == 0 && flags & (SYN | FIN) == 0) {
        return SHOT;
    }
    let is_request =
        len >= 4 && matches!(&ctx.load::<[u8; 4]>(TCP + offset).ok()?, b"GET " | b"PUT ");
    count(0, u64::from(is_request));
    count(1, len as u64);

    (it.source_mac, it.destination_mac) = (it.destination_mac, it.source_mac);
    (it.source, it.destination) = (it.destination, it.source);
    (it.source_port, it.destination_port) = (it.destination_port, it.source_port);
    let virtual_len = len as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let next = u32::from_be_bytes(it.seq).wrapping_add(virtual_len);
    it.seq = if flags & SYN != 0 { [0, 0, 16, 0] } else { it.ack };
    it.ack = next.to_be_bytes();
    it.data_offset = if flags & SYN != 0 { 7 << 4 } else { 5 << 4 };
    it.flags = ACK | flags & (SYN | FIN) | if is_request { PSH } else { 0 };
    it.window = [0xff; 2];
    let (payload, payload_sum) = if flags & SYN != 0 {
        (SYN_OPTIONS.len(), OPTIONS_SUM)
    } else if is_request {
        (PAGE_LEN, PAGE_SUM)
    } else {
        (0, 0)
    };
    let segment = 20 + payload;
    it.total_length = (20 + segment as u16).to_be_bytes();
    (it.id, it.fragment, it.ttl, it.tos) = ([0; 2], [0x40, 0], 64, 0);
    (it.ip_checksum, it.checksum, it.urgent) = ([0; 2], [0; 2], [0; 2]);
    let bytes: [u8; DATA] = bytemuck::cast(it);
    let mut ip = 0;
    let mut tcp = payload_sum + 6 + segment as u32;
    for at in (IP..TCP).step_by(2) {
        ip += u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    }
    for at in (IP + 12..DATA).step_by(2) {
        tcp += u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    }
    it.ip_checksum = fold(ip).to_be_bytes();
    it.checksum = fold(tcp).to_be_bytes();

    let skb = ctx.skb.skb;
    // SAFETY: `skb` is the program's own context, the pointers are to as many octets as is said.
    unsafe {
        if bpf_skb_change_tail(skb, (DATA + payload) as u32, 0) != 0
            || bpf_skb_pull_data(skb, DATA as u32) != 0
            || bpf_skb_store_bytes(skb.cast(), 0, (&raw const it).cast(), DATA as u32, 0) != 0
        {
            return SHOT;
        }
        let stored = if flags & SYN != 0 {
            let options = (&raw const SYN_OPTIONS).cast();
            bpf_skb_store_bytes(skb.cast(), DATA as u32, options, SYN_OPTIONS.len() as u32, 0)
        } else if is_request {
            let page = (&raw const PAGE).cast();
            bpf_skb_store_bytes(skb.cast(), DATA as u32, page, PAGE_LEN as u32, 0)
        } else {
            0
        };
        if stored != 0 {
            return SHOT;
        }
        bpf_redirect((*skb).ifindex, 0);
    }
    Some(TC_ACT_REDIRECT)
}

#[inline(always)]
fn count(index: u32, add: u64) {
    if let Some(counter) = COUNTS.get_ptr_mut(index) {
        // SAFETY: the slot is this CPU's own, and programs do not interrupt each other here.
        unsafe { *counter += add };
    }
}

#[inline(always)]
fn fold(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

const fn page() -> [u8; PAGE_LEN] {
    let mut page = [b'x'; PAGE_LEN];
    let mut at = 0;
    while at < HEAD.len() {
        page[at] = HEAD[at];
        at += 1;
    }
    page
}

/// The sum of RFC 1071 over an even number of octets, at most 64 KiB, not folded.
const fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    let mut at = 0;
    while at + 1 < bytes.len() {
        sum += (bytes[at] as u32) << 8 | bytes[at + 1] as u32;
        at += 2;
    }
    sum
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// The helpers used here are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
