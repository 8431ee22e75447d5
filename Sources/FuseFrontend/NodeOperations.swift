internal import CFuse3
internal import Glibc
internal import Primitives
internal import Synchronization

/// Requests on names, attributes, opens and directories.
extension Server {
    func lookUp(_ request: fuse_req_t?, parent: UInt64, name: String) {
        noteLookUp(by: fuse_req_ctx(request).pointee.pid)
        do throws(MountError) {
            switch (parent, name) {
            case (Node.root, "volume"): try reply(Node.volume)
            case (Node.root, "snapshots"): try reply(Node.snapshots)
            case (Node.root, ".replica"): try reply(Node.state)
            case (Node.state, "status"): try reply(Node.status)
            case (Node.state, "stats"): try reply(Node.stats)
            case (Node.snapshots, _):
                guard let entry = try nodes.lookUp(name) else { throw MountError(errno: ENOENT) }
                do throws(MountError) {
                    let attributes = try attributes(of: entry)
                    if !replyEntry(request, attributes, attributeSeconds: Self.attributeSeconds) {
                        nodes.forget(entry.node, count: 1)
                    }
                } catch {
                    nodes.forget(entry.node, count: 1)
                    throw error
                }
            default: throw MountError(errno: ENOENT)
            }
        } catch {
            replyError(request, error.errno)
        }

        func reply(_ node: UInt64) throws(MountError) {
            _ = replyEntry(request, try attributes(of: node), attributeSeconds: attributeSeconds(of: node))
        }
    }

    func getAttributes(_ request: fuse_req_t?, node: UInt64) {
        noteLookUp(by: fuse_req_ctx(request).pointee.pid)
        do throws(MountError) {
            replyAttributes(request, try attributes(of: node), seconds: attributeSeconds(of: node))
        } catch {
            replyError(request, error.errno)
        }
    }

    private func attributeSeconds(of node: UInt64) -> Double { Node.document(node) == nil ? Self.attributeSeconds : 0 }

    /// chmod, chown, truncate, utimensat.
    func setAttributes(_ request: fuse_req_t?, node: UInt64, _ wanted: stat, _ which: Int32, hasHandle: Bool) {
        let thread = fuse_req_ctx(request).pointee.pid
        do throws(MountError) {
            var truncatesOnOpen = false
            if which & FUSE_SET_ATTR_SIZE != 0 {
                guard node == Node.volume else { throw MountError(errno: Node.isDirectory(node) ? EISDIR : EPERM) }
                truncatesOnOpen = !hasHandle && wanted.st_size == 0 && isTruncatingOpen(by: thread)
                if !truncatesOnOpen && UInt64(clamping: wanted.st_size) != live.size { throw MountError(errno: EPERM) }
            }
            let now = try attributes(of: node)
            // What is as asked already is granted: cp -p and tar set modes that are often the same.
            if which & FUSE_SET_ATTR_MODE != 0, wanted.st_mode & 0o7777 != now.st_mode & 0o7777 {
                throw MountError(errno: EPERM)
            }
            if which & FUSE_SET_ATTR_UID != 0, wanted.st_uid != now.st_uid { throw MountError(errno: EPERM) }
            if which & FUSE_SET_ATTR_GID != 0, wanted.st_gid != now.st_gid { throw MountError(errno: EPERM) }
            if node == Node.volume, which & FUSE_SET_ATTR_MTIME != 0 {
                if which & FUSE_SET_ATTR_MTIME_NOW != 0 { noteModified() } else { setModified(wanted.st_mtim) }
            }
            replyAttributes(request, try attributes(of: node), seconds: attributeSeconds(of: node))
        } catch {
            replyError(request, error.errno)
        }
    }

    func openFile(_ request: fuse_req_t?, node: UInt64, flags: Int32) {
        let isWritable = flags & O_ACCMODE != O_RDONLY
        let isDirect = flags & openDirect != 0 || options.cache == .none
        // Several writes of one file at a time; the kernel falls back to one while somebody uses its cache.
        var answer = UInt32(isDirect ? FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES : FOPEN_KEEP_CACHE)
        do throws(MountError) {
            let content: OpenFile.Content
            switch node {
            case Node.volume:
                if isWritable && options.isReadOnly { throw MountError(errno: EROFS) }
                content = .image(live)
            case Node.status, Node.stats:
                if isWritable { throw MountError(errno: EACCES) }
                guard let which = Node.document(node) else { throw MountError(errno: ENOENT) }
                content = .document(volume.document(which))
                // Its size is given as 0, like that of files in /proc; direct I/O reads on to the text's end.
                answer = UInt32(FOPEN_DIRECT_IO)
            default:
                if isWritable { throw MountError(errno: EROFS) }
                content = .image(try nodes.open(node))
            }
            let file = OpenFile(
                content: content, node: node, isWritable: isWritable, isDurable: flags & O_DSYNC != 0)
            if node == Node.volume, isWritable {
                writableOpens.add(1, ordering: .relaxed)
                // Noted before the reply, which lets the SETATTR of O_TRUNC come on another worker.
                noteOpen(by: fuse_req_ctx(request).pointee.pid)
            }
            let handle = file.handle()
            if !replyOpen(request, handle: handle, flags: answer) { releaseFile(handle: handle) }
        } catch {
            replyError(request, error.errno)
        }
    }

    func releaseFile(handle: UInt64) {
        guard let file = OpenFile.release(handle: handle) else { return }
        if file.node == Node.volume, file.isWritable { writableOpens.subtract(1, ordering: .relaxed) }
    }

    func statistics(_ request: fuse_req_t?) {
        do throws(MountError) {
            let space = try volume.space()
            var answer = statvfs()
            answer.f_bsize = 4096
            answer.f_frsize = 4096
            answer.f_blocks = fsblkcnt_t(space.total / 4096)
            answer.f_bfree = fsblkcnt_t(space.available / 4096)
            answer.f_bavail = answer.f_bfree
            answer.f_namemax = 255
            fuse_reply_statfs(request, &answer)
        } catch {
            replyError(request, error.errno)
        }
    }

    // MARK: Directories

    func openDirectory(_ request: fuse_req_t?, node: UInt64) {
        guard Node.isDirectory(node) else { return replyError(request, ENOTDIR) }
        let handle = OpenDirectory().handle()
        if !replyOpen(request, handle: handle, flags: 0) { OpenDirectory.release(handle: handle) }
    }

    func readDirectory(_ request: fuse_req_t?, node: UInt64, size: Int, offset: off_t, handle: UInt64) {
        guard let directory = OpenDirectory.of(handle: handle), let thread = ServingThread.current, offset >= 0 else {
            return replyError(request, EBADF)
        }
        do throws(MountError) {
            if offset == 0 { directory.entries = try entries(of: node) }
        } catch {
            return replyError(request, error.errno)
        }
        let payload = thread.pointee.payload
        let limit = min(size, payload.count)
        var used = 0
        var index = Int(offset)
        while index < directory.entries.count {
            let entry = directory.entries[index]
            var attributes = stat()
            attributes.st_ino = ino_t(entry.node)
            attributes.st_mode = entry.isDirectory ? S_IFDIR : S_IFREG
            let start = payload.baseAddress?.advanced(by: used).assumingMemoryBound(to: CChar.self)
            // An entry's offset is that of the one behind it: where the next call goes on.
            let count = fuse_add_direntry(request, start, limit - used, entry.name, &attributes, off_t(index + 1))
            if count > limit - used { break }
            used += count
            index += 1
        }
        replyBytes(request, UnsafeRawBufferPointer(rebasing: payload[..<used]))
    }

    private func entries(of node: UInt64) throws(MountError) -> [OpenDirectory.Entry] {
        var result = [
            OpenDirectory.Entry(name: ".", node: node, isDirectory: true),
            OpenDirectory.Entry(name: "..", node: Node.root, isDirectory: true),
        ]
        switch node {
        case Node.root:
            result.append(.init(name: "volume", node: Node.volume, isDirectory: false))
            result.append(.init(name: "snapshots", node: Node.snapshots, isDirectory: true))
            result.append(.init(name: ".replica", node: Node.state, isDirectory: true))
        case Node.state:
            result.append(.init(name: "status", node: Node.status, isDirectory: false))
            result.append(.init(name: "stats", node: Node.stats, isDirectory: false))
        case Node.snapshots:
            for entry in try nodes.all() {
                result.append(.init(name: entry.snapshot.name, node: entry.node, isDirectory: false))
            }
        default: throw MountError(errno: ENOTDIR)
        }
        return result
    }
}

/// O_DIRECT, which Glibc shows under _GNU_SOURCE alone and which differs between processors.
#if arch(arm64)
    private let openDirect: Int32 = 0o200000
#else
    private let openDirect: Int32 = 0o40000
#endif
