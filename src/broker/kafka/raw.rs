//! What the rdkafka crate does not read, or only from UTF-8.
//!
//! A header's name and a commit's metadata are written by others and may be anything; the crate's
//! own accessors panic on what is not UTF-8. A group's members it asks for in a way that knows only the
//! classic protocol. All unsafe code of the Kafka source is here.

use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::bindings::{rd_kafka_header_get_all, rd_kafka_message_headers};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
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

/// How many members a group has, whichever protocol it speaks; 0 when there is no such group.
pub(super) fn members<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    patience: Duration,
) -> Result<usize, RDKafkaErrorCode> {
    let name = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidGroupId)?;
    let wait = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: the client outlives the call and the queue, which is ours; the list of names is copied
    // before the call returns; no options are given.
    let event = unsafe {
        let queue = rd::rd_kafka_queue_new(client.native_ptr());
        rd::rd_kafka_DescribeConsumerGroups(
            client.native_ptr(),
            names.as_mut_ptr(),
            names.len(),
            ptr::null(),
            queue,
        );
        let event = rd::rd_kafka_queue_poll(queue, wait);
        rd::rd_kafka_queue_destroy(queue);
        event
    };
    if event.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    // SAFETY: the event is there, nobody else has it, and nothing of it is used after its end.
    unsafe {
        let told = members_of(event);
        rd::rd_kafka_event_destroy(event);
        told
    }
}

/// # Safety
/// The event is one that was polled and not destroyed.
unsafe fn members_of(event: *mut rd::rd_kafka_event_t) -> Result<usize, RDKafkaErrorCode> {
    const NONE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: all that is read belongs to the event. A result of another kind is null, and so is the
    // error of a group that was described; librdkafka takes null for "no error".
    unsafe {
        let failed = rd::rd_kafka_event_error(event);
        let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
        if failed != NONE || result.is_null() {
            return Err(failed.into());
        }
        let mut count = 0;
        let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if count == 0 || groups.is_null() {
            return Ok(0);
        }
        let group = *groups;
        match rd::rd_kafka_error_code(rd::rd_kafka_ConsumerGroupDescription_error(group)) {
            NONE => Ok(rd::rd_kafka_ConsumerGroupDescription_member_count(group)),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => Ok(0),
            error => Err(error.into()),
        }
    }
}
