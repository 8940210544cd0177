//! The two things that the rdkafka crate reads only from UTF-8, read from any bytes.
//!
//! A header's name and a commit's metadata are written by others and may be anything; the crate's
//! own accessors panic on what is not UTF-8. All unsafe code of the Kafka source is here.

use std::ffi::CStr;
use std::ptr;
use std::slice;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{rd_kafka_header_get_all, rd_kafka_message_headers};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

/// Calls `each` with the name and value of every header, in the record's order. Bytes of a name
/// that are not UTF-8 are replaced; a header without a value has an empty one.
pub(super) fn each_header(message: &BorrowedMessage<'_>, mut each: impl FnMut(&str, &[u8])) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message lives for the whole call; the headers stay its own.
    let found = unsafe { rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` was given out above and belongs to the message; the outputs are ours.
        let read =
            unsafe { rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
        if read != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: librdkafka ends every header's name with a zero and keeps it as long as the message.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let value = match value.is_null() {
            true => &[],
            // SAFETY: a value that is there has `size` bytes and is kept as long as the message.
            false => unsafe { slice::from_raw_parts(value.cast::<u8>(), size) },
        };
        each(&name, value);
    }
}

/// The metadata of the list's element number `index`; empty when there is none or it is not UTF-8.
pub(super) fn metadata(list: &TopicPartitionList, index: usize) -> &str {
    if index >= list.count() {
        return "";
    }
    // SAFETY: the pointer is the list's own, which outlives the result, and has `count` elements.
    let element = unsafe { &*(*list.ptr()).elems.add(index) };
    if element.metadata.is_null() || element.metadata_size == 0 {
        return "";
    }
    // SAFETY: librdkafka keeps `metadata_size` bytes there, as long as the list.
    let bytes = unsafe { slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) };
    std::str::from_utf8(bytes).unwrap_or("")
}
