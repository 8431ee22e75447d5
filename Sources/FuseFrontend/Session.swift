internal import CFuse3
internal import Glibc
internal import Primitives

/// A mounted libfuse session: the connection to the kernel, with the handshake done.
///
/// libfuse takes requests apart and puts replies together. Reading is done by our own threads, each from a descriptor
/// of its own, and replies leave through the descriptor that the request came from: `fuse_session_custom_io` gives a
/// place for that.
final class Session: @unchecked Sendable {
    let pointer: OpaquePointer
    let server: Server
    /// The descriptor that the file system was mounted with.
    let descriptor: Int32
    let mountPoint: String
    /// `major:minor`, as the mount table shows it.
    let device: String

    /// Mounts, and answers FUSE_INIT.
    init(server: Server, mountPoint: String) throws(MountFailure) {
        _ = LibfuseLog.isCaptured
        _ = LibfuseLog.take()
        self.server = server
        self.mountPoint = mountPoint

        guard let created = Self.create(server) else { throw .refused(path: mountPoint, reason: LibfuseLog.take()) }
        pointer = created
        if fuse_session_mount(pointer, mountPoint) != 0 {
            let code = errno
            fuse_session_destroy(pointer)
            let reason = LibfuseLog.take()
            if code == EPERM || code == EACCES { throw .permissionDenied(path: mountPoint, code: code) }
            throw .refused(path: mountPoint, reason: reason.isEmpty ? "the kernel refused the mount" : reason)
        }
        descriptor = fuse_session_fd(pointer)
        device = MountTableEntry.top(at: mountPoint)?.device ?? ""

        var io = Self.makeInput()
        let code = fuse_session_custom_io(pointer, &io, descriptor)
        if code == 0, Self.shakeHands(pointer, descriptor) { return }
        try? unmountFileSystem(at: mountPoint, device: device, lazily: true)
        fuse_session_destroy(pointer)
        throw .refused(
            path: mountPoint, reason: "the kernel and libfuse do not agree on a protocol: \(LibfuseLog.take())")
    }

    /// Frees the session and closes its descriptor, which ends the connection when it is the last one.
    ///
    /// `fuse_session_unmount` is not used: it unmounts whatever is mounted at the path by now. Its only other work is
    /// to free the path's copy.
    func destroy() { fuse_session_destroy(pointer) }

    private static func create(_ server: Server) -> OpaquePointer? {
        var operations = makeOperations()
        let words = ["replica-store", "-o", server.options.libfuseText()]
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        return pointers.withUnsafeMutableBufferPointer { words -> OpaquePointer? in
            var arguments = fuse_args(argc: Int32(words.count), argv: words.baseAddress, allocated: 0)
            defer { fuse_opt_free_args(&arguments) }
            return fuse_session_new(
                &arguments, &operations, MemoryLayout<fuse_lowlevel_ops>.size,
                Unmanaged.passUnretained(server).toOpaque())
        }
    }

    private static func makeInput() -> fuse_custom_io {
        var io = fuse_custom_io()
        io.read = { descriptor, buffer, count, _ in read(descriptor, buffer, count) }
        io.writev = { descriptor, parts, count, _ in
            guard let parts else {
                errno = EINVAL
                return -1
            }
            // Notifications come from threads that serve nothing; any descriptor will do for them.
            let thread = ServingThread.current
            if let features = thread?.pointee.initFeatures {
                allowMappings(UnsafeMutableBufferPointer(start: parts, count: Int(count)), offered: features)
            }
            let sent = writev(thread?.pointee.replyDescriptor ?? descriptor, parts, count)
            // The connection was cut: the caller has its error already, and there is nothing to report.
            if sent < 0, errno == ENODEV || errno == ENOTCONN || errno == ECONNABORTED { errno = ENOENT }
            return sent
        }
        return io
    }

    /// Reads the first request, which is FUSE_INIT, and answers it.
    private static func shakeHands(_ session: OpaquePointer, _ descriptor: Int32) -> Bool {
        let buffer = MessageBuffer()
        while true {
            let count = read(descriptor, buffer.message.baseAddress, buffer.message.count)
            if count < 0, errno == EINTR { continue }
            if count < MemoryLayout<fuse_in_header>.size { return false }
            let message = UnsafeRawBufferPointer(rebasing: buffer.message[..<count])
            if RequestHead(message).opcode != FUSE_INIT.rawValue { return false }
            var thread = ServingThread(
                replyDescriptor: descriptor, payload: buffer.payload, initFeatures: extraFeatures(message))
            thread.adopted { _ in process(session, buffer.message, count) }
            return fuse_session_exited(session) == 0
        }
    }

    /// Hands a request to libfuse, which calls the operation; the reply has been sent when it returns.
    @inline(__always)
    static func process(_ session: OpaquePointer, _ message: UnsafeMutableRawBufferPointer, _ count: Int) {
        var request = fuse_buf()
        request.size = count
        request.mem = message.baseAddress
        fuse_session_process_buf(session, &request)
    }
}

// MARK: What libfuse 3.14 does not know of the handshake

/// FUSE_INIT_EXT: the request, or the reply, has a second word of features.
private let initExtended: UInt32 = 1 << 30
/// FUSE_DIRECT_IO_ALLOW_MMAP, bit 36 of the features: a file opened for direct I/O can be mapped shared as well.
private let allowMappingOfDirectFiles: UInt32 = 1 << 4

/// The second word of features of an INIT request; 0 when the kernel sends none.
private func extraFeatures(_ message: UnsafeRawBufferPointer) -> UInt32 {
    // Behind the header: major, minor, max_readahead, flags, flags2.
    let start = MemoryLayout<fuse_in_header>.size
    if message.count < start + 20 { return 0 }
    let flags = message.loadUnaligned(fromByteOffset: start + 12, as: UInt32.self)
    return flags & initExtended == 0 ? 0 : message.loadUnaligned(fromByteOffset: start + 16, as: UInt32.self)
}

/// Adds to libfuse's answer to INIT that shared mappings of directly opened files are wanted, if the kernel can.
private func allowMappings(_ parts: UnsafeMutableBufferPointer<iovec>, offered: UInt32) {
    guard offered & allowMappingOfDirectFiles != 0, parts.count == 2, let answer = parts[1].iov_base,
        parts[1].iov_len >= MemoryLayout<fuse_init_out>.size
    else { return }
    let fields = answer.assumingMemoryBound(to: fuse_init_out.self)
    fields.pointee.flags |= initExtended
    fields.pointee.flags2 |= allowMappingOfDirectFiles
}
