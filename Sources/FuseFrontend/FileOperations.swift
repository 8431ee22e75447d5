internal import CFuse3
internal import Glibc
internal import Primitives

/// Requests on open files. `readFile` and `writeFile` are the hot path: no allocation, no lock, one call each into the
/// volume.
extension Server {
    func readFile(_ request: fuse_req_t?, _ file: OpenFile, _ size: Int, _ offset: off_t) {
        guard offset >= 0, let thread = ServingThread.current else { return replyError(request, EINVAL) }
        switch file.content {
        case .image(let image):
            let offset = UInt64(offset)
            let end = image.size
            if offset >= end { return replyBytes(request, UnsafeRawBufferPointer(start: nil, count: 0)) }
            let count = min(size, Int(clamping: end - offset))
            // A short answer means the end of the file, so what the buffer cannot hold is an error instead.
            if count > thread.pointee.payload.count { return replyError(request, EIO) }
            let part = UnsafeMutableRawBufferPointer(rebasing: thread.pointee.payload[..<count])
            do throws(MountError) {
                try image.read(at: offset, into: part)
                replyBytes(request, UnsafeRawBufferPointer(part))
            } catch {
                replyError(request, error.errno)
            }
        case .document(let text):
            let start = min(Int(offset), text.count)
            let end = min(start + size, text.count)
            text.withUnsafeBytes { replyBytes(request, UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
        }
    }

    /// - Parameter flags: the open flags, with O_DSYNC also when this write alone asks for it (RWF_DSYNC).
    func writeFile(
        _ request: fuse_req_t?, _ file: OpenFile, _ bytes: UnsafeRawBufferPointer, _ offset: off_t, flags: Int32
    ) {
        guard case .image(let image) = file.content, file.node == Node.volume else { return replyError(request, EBADF) }
        if options.isReadOnly { return replyError(request, EROFS) }
        guard offset >= 0 else { return replyError(request, EINVAL) }
        let offset = UInt64(offset)
        let end = image.size
        if bytes.isEmpty { return discardResult(fuse_reply_write(request, 0)) }
        // As on a block device: nothing is written behind the end, and of what straddles it the part that fits.
        if offset >= end { return replyError(request, ENOSPC) }
        let count = min(bytes.count, Int(clamping: end - offset))
        do throws(MountError) {
            // With direct I/O no FSYNC follows a write that is to be durable: its flags are the only sign.
            try image.write(
                UnsafeRawBufferPointer(rebasing: bytes[..<count]), at: offset, durable: flags & O_DSYNC != 0)
            noteModified()
            fuse_reply_write(request, count)
        } catch {
            replyError(request, error.errno)
        }
    }

    func syncFile(_ request: fuse_req_t?, _ file: OpenFile?) {
        if options.isReadOnly || (file.map { $0.node != Node.volume } ?? false) { return replyDone(request) }
        do throws(MountError) {
            try live.flush()
            replyDone(request)
        } catch {
            replyError(request, error.errno)
        }
    }

    func allocate(_ request: fuse_req_t?, _ file: OpenFile, mode: Int32, offset: off_t, length: off_t) {
        guard case .image(let image) = file.content, file.node == Node.volume else { return replyError(request, EBADF) }
        if options.isReadOnly { return replyError(request, EROFS) }
        guard offset >= 0, length > 0 else { return replyError(request, EINVAL) }
        let (end, overflow) = offset.addingReportingOverflow(length)
        if overflow { return replyError(request, EFBIG) }
        let keepsSize = mode & FALLOC_FL_KEEP_SIZE != 0
        let size = image.size
        let start = UInt64(offset)
        // The file cannot grow. A range that must not make it grow is cut at its end, as in any file.
        let fits = UInt64(end) <= size
        let length = start < size ? min(UInt64(length), size - start) : 0
        do throws(MountError) {
            switch mode & ~FALLOC_FL_KEEP_SIZE {
            case 0 where !keepsSize:
                if !fits { throw MountError(errno: EFBIG) }
                try image.reserve(at: start, length: length)
            case FALLOC_FL_PUNCH_HOLE where keepsSize:
                if length > 0 { try image.empty(at: start, length: length, .discard, durable: file.isDurable) }
                noteModified()
            case FALLOC_FL_ZERO_RANGE:
                if !keepsSize && !fits { throw MountError(errno: EFBIG) }
                if length > 0 { try image.empty(at: start, length: length, .zero, durable: file.isDurable) }
                noteModified()
            default: throw MountError(errno: EOPNOTSUPP)
            }
            replyDone(request)
        } catch {
            replyError(request, error.errno)
        }
    }

    func seek(_ request: fuse_req_t?, _ file: OpenFile, offset: off_t, whence: Int32) {
        guard case .image(let image) = file.content else { return replyError(request, EINVAL) }
        let size = image.size
        // A negative offset is ENXIO too, by lseek(2).
        guard offset >= 0, UInt64(offset) < size else { return replyError(request, ENXIO) }
        let start = UInt64(offset)
        let isAllData = file.node == Node.volume && mayHaveUnsentPages
        do throws(MountError) {
            switch whence {
            case seekData:
                guard let found = isAllData ? start : try image.nextData(from: start), found < size else {
                    throw MountError(errno: ENXIO)
                }
                fuse_reply_lseek(request, off_t(found))
            case seekHole:
                fuse_reply_lseek(request, off_t(isAllData ? size : min(size, try image.nextHole(from: start))))
            default: throw MountError(errno: EINVAL)
            }
        } catch {
            replyError(request, error.errno)
        }
    }
}

/// SEEK_DATA and SEEK_HOLE of lseek(2), which Glibc shows under _GNU_SOURCE alone.
private let seekData: Int32 = 3
private let seekHole: Int32 = 4

@inline(__always)
private func discardResult(_: Int32) {}
