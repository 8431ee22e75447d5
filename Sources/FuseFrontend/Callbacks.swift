internal import CFuse3
internal import Glibc
internal import Primitives

/// libfuse's table of operations. The closures are formed in a nonisolated function, so that they run on any thread.
///
/// Operations that are left out answer ENOSYS, which makes the kernel do without: flush (close(2) has nothing to wait
/// for, the kernel itself sends changed pages first), getxattr (asked before each write otherwise), access, poll,
/// ioctl, locks (kept by the kernel for this mount alone), copy_file_range (the kernel reads and writes).
func makeOperations() -> fuse_lowlevel_ops {
    var table = fuse_lowlevel_ops()
    table.`init` = { data, connection in
        guard let data, let connection else { return }
        Unmanaged<Server>.fromOpaque(data).takeUnretainedValue().negotiate(&connection.pointee)
    }
    table.lookup = { request, parent, name in
        guard let name else { return replyError(request, EINVAL) }
        Server.of(request).lookUp(request, parent: UInt64(parent), name: String(cString: name))
    }
    table.forget = { request, node, count in
        Server.of(request).nodes.forget(UInt64(node), count: count)
        fuse_reply_none(request)
    }
    table.forget_multi = { request, count, list in
        let nodes = Server.of(request).nodes
        for item in UnsafeBufferPointer(start: list, count: count) { nodes.forget(item.ino, count: item.nlookup) }
        fuse_reply_none(request)
    }
    table.getattr = { request, node, _ in Server.of(request).getAttributes(request, node: UInt64(node)) }
    table.setattr = { request, node, wanted, which, info in
        guard let wanted else { return replyError(request, EINVAL) }
        Server.of(request).setAttributes(
            request, node: UInt64(node), wanted.pointee, which, hasHandle: info != nil)
    }
    table.statfs = { request, _ in Server.of(request).statistics(request) }
    addFileOperations(&table)
    addDirectoryOperations(&table)
    addRefusals(&table)
    return table
}

private func addFileOperations(_ table: inout fuse_lowlevel_ops) {
    table.open = { request, node, info in
        guard let info else { return replyError(request, EINVAL) }
        Server.of(request).openFile(request, node: UInt64(node), flags: info.pointee.flags)
    }
    table.release = { request, _, info in
        if let info { Server.of(request).releaseFile(handle: info.pointee.fh) }
        replyDone(request)
    }
    table.read = { request, _, size, offset, info in
        guard let info, let file = OpenFile.of(handle: info.pointee.fh) else { return replyError(request, EBADF) }
        Server.of(request).readFile(request, file, size, offset)
    }
    table.write = { request, _, bytes, size, offset, info in
        guard let info, let file = OpenFile.of(handle: info.pointee.fh) else { return replyError(request, EBADF) }
        Server.of(request).writeFile(
            request, file, UnsafeRawBufferPointer(start: bytes, count: size), offset, flags: info.pointee.flags)
    }
    table.fsync = { request, _, _, info in
        Server.of(request).syncFile(request, info.flatMap { OpenFile.of(handle: $0.pointee.fh) })
    }
    table.fallocate = { request, _, mode, offset, length, info in
        guard let info, let file = OpenFile.of(handle: info.pointee.fh) else { return replyError(request, EBADF) }
        Server.of(request).allocate(request, file, mode: mode, offset: offset, length: length)
    }
    table.lseek = { request, _, offset, whence, info in
        guard let info, let file = OpenFile.of(handle: info.pointee.fh) else { return replyError(request, EBADF) }
        Server.of(request).seek(request, file, offset: offset, whence: whence)
    }
}

private func addDirectoryOperations(_ table: inout fuse_lowlevel_ops) {
    table.opendir = { request, node, _ in Server.of(request).openDirectory(request, node: UInt64(node)) }
    table.readdir = { request, node, size, offset, info in
        guard let info else { return replyError(request, EBADF) }
        Server.of(request).readDirectory(
            request, node: UInt64(node), size: size, offset: offset, handle: info.pointee.fh)
    }
    table.releasedir = { request, _, info in
        if let info { OpenDirectory.release(handle: info.pointee.fh) }
        replyDone(request)
    }
    table.fsyncdir = { request, _, _, _ in Server.of(request).syncFile(request, nil) }
}

/// The names of a mount are the volume's: none is made, taken away or moved through it.
private func addRefusals(_ table: inout fuse_lowlevel_ops) {
    table.mknod = { request, _, _, _, _ in replyError(request, EPERM) }
    table.mkdir = { request, _, _, _ in replyError(request, EPERM) }
    table.unlink = { request, _, _ in replyError(request, EPERM) }
    table.rmdir = { request, _, _ in replyError(request, EPERM) }
    table.symlink = { request, _, _, _ in replyError(request, EPERM) }
    table.rename = { request, _, _, _, _, _ in replyError(request, EPERM) }
    table.link = { request, _, _, _ in replyError(request, EPERM) }
    table.create = { request, _, _, _, _ in replyError(request, EPERM) }
}

extension Server {
    /// Chooses what the kernel and this server do for each other (FUSE_INIT).
    func negotiate(_ connection: inout fuse_conn_info) {
        connection.max_write = UInt32(MessageBuffer.payloadLimit)
        connection.max_readahead = UInt32(MessageBuffer.payloadLimit)
        // Requests of libaio, io_uring and read-ahead that are under way at once; the kernel's own choice is 12.
        connection.max_background = 256
        connection.congestion_threshold = 192

        var wanted = connection.want
        // The content changes through this mount alone, or we tell (invalidateVolume): the kernel must not drop its
        // pages because the modification time has moved on.
        wanted &= ~UInt32(FUSE_CAP_AUTO_INVAL_DATA)
        wanted |= UInt32(FUSE_CAP_EXPLICIT_INVAL_DATA)
        // O_TRUNC comes as a SETATTR, which can be granted without effect; as a flag of OPEN, the kernel would set the
        // size it knows to 0 and drop its pages.
        wanted &= ~UInt32(FUSE_CAP_ATOMIC_O_TRUNC)
        wanted &= ~UInt32(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO)
        // Requests are read into our own memory, at a place that aligns the data of writes.
        wanted &= ~UInt32(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE)
        wanted |= UInt32(FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS)
        if options.cache == .writeback && !options.isReadOnly {
            wanted |= UInt32(FUSE_CAP_WRITEBACK_CACHE)
        } else {
            wanted &= ~UInt32(FUSE_CAP_WRITEBACK_CACHE)
        }
        connection.want = wanted & connection.capable
    }
}
