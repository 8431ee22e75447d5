internal import CFuse3
internal import Glibc

/// Replies to requests. Each consumes its request; none may follow another for the same one.
///
/// A reply can fail only because the kernel no longer waits for it (the connection was cut), so only those that hand
/// out something the kernel would give back later tell whether they arrived.

@inline(__always)
func replyError(_ request: fuse_req_t?, _ code: Int32) {
    // The kernel takes 1...999 alone; a code of the volume's that is none must not turn into a success.
    fuse_reply_err(request, code > 0 && code < 1000 ? code : EIO)
}

@inline(__always)
func replyDone(_ request: fuse_req_t?) { fuse_reply_err(request, 0) }

@inline(__always)
func replyBytes(_ request: fuse_req_t?, _ bytes: UnsafeRawBufferPointer) {
    fuse_reply_buf(request, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
}

/// The answer to an OPEN or OPENDIR, made here because `fuse_reply_open` of libfuse 3.14 does not know every flag.
/// - Returns: whether the kernel has the handle and will release it.
func replyOpen(_ request: fuse_req_t?, handle: UInt64, flags: UInt32) -> Bool {
    var answer = fuse_open_out()
    answer.fh = handle
    answer.open_flags = flags
    return withUnsafeBytes(of: &answer) { bytes in
        fuse_reply_buf(request, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count) == 0
    }
}

func replyAttributes(_ request: fuse_req_t?, _ attributes: stat, seconds: Double) {
    var attributes = attributes
    fuse_reply_attr(request, &attributes, seconds)
}

/// - Returns: whether the kernel counts the look-up and will forget it.
func replyEntry(_ request: fuse_req_t?, _ attributes: stat, attributeSeconds: Double) -> Bool {
    var entry = fuse_entry_param()
    entry.ino = fuse_ino_t(attributes.st_ino)
    entry.generation = 1
    entry.attr = attributes
    entry.attr_timeout = attributeSeconds
    // Names are looked up anew each time: snapshots come and go, and O_TRUNC is told from truncate(2) by it.
    entry.entry_timeout = 0
    return fuse_reply_entry(request, &entry) == 0
}
