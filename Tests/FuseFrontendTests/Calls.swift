internal import CMountTest
internal import Glibc

/// A system call that failed.
struct Failed: Error, Equatable, CustomStringConvertible {
    var code: Int32
    var description: String { "\(code) \(String(cString: strerror(code)))" }
}

/// An open descriptor, and the calls on it that the tests make.
final class Descriptor: @unchecked Sendable {
    let number: Int32

    init(_ path: String, _ flags: Int32) throws {
        number = ct_open(path, flags, 0o600)
        if number < 0 { throw Failed(code: -number) }
    }

    deinit { close(number) }

    func read(_ count: Int, at offset: Int) throws -> [UInt8] {
        // Aligned for O_DIRECT.
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 4096)
        defer { buffer.deallocate() }
        let got = pread(number, buffer.baseAddress, count, offset)
        if got < 0 { throw Failed(code: errno) }
        return Array(buffer[..<got])
    }

    /// - Returns: how many bytes were written.
    @discardableResult
    func write(_ bytes: [UInt8], at offset: Int) throws -> Int {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 4096)
        defer { buffer.deallocate() }
        buffer.copyBytes(from: bytes)
        let wrote = pwrite(number, buffer.baseAddress, bytes.count, offset)
        if wrote < 0 { throw Failed(code: errno) }
        return wrote
    }

    func writeDurably(_ bytes: [UInt8], at offset: Int) throws {
        let wrote = ct_pwrite_dsync(number, bytes, bytes.count, offset)
        if wrote < 0 { throw Failed(code: Int32(-wrote)) }
    }

    func allocate(_ mode: Int32, _ offset: Int, _ length: Int) throws {
        let result = ct_fallocate(number, mode, offset, length)
        if result < 0 { throw Failed(code: -result) }
    }

    func seek(_ whence: Int32, _ offset: Int) throws -> Int {
        let found = lseek(number, offset, whence)
        if found < 0 { throw Failed(code: errno) }
        return found
    }

    func sync() throws { if fsync(number) != 0 { throw Failed(code: errno) } }
    func syncData() throws { if fdatasync(number) != 0 { throw Failed(code: errno) } }
    func truncate(to size: Int) throws { if ftruncate(number, size) != 0 { throw Failed(code: errno) } }
    func status() throws -> stat {
        var info = stat()
        if fstat(number, &info) != 0 { throw Failed(code: errno) }
        return info
    }

    /// Maps the whole range shared, for reading and writing.
    func map(_ count: Int, _ protection: Int32 = PROT_READ | PROT_WRITE) throws -> UnsafeMutableRawBufferPointer {
        guard let start = mmap(nil, count, protection, MAP_SHARED, number, 0), start != MAP_FAILED else {
            throw Failed(code: errno)
        }
        return UnsafeMutableRawBufferPointer(start: start, count: count)
    }
}

func unmap(_ mapping: UnsafeMutableRawBufferPointer) { munmap(mapping.baseAddress, mapping.count) }

func status(_ path: String) throws -> stat {
    var info = stat()
    if lstat(path, &info) != 0 { throw Failed(code: errno) }
    return info
}

/// The names in a directory, without `.` and `..`, in its order.
func names(in path: String) throws -> [String] {
    guard let directory = opendir(path) else { throw Failed(code: errno) }
    defer { closedir(directory) }
    var result: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != "." && name != ".." { result.append(name) }
    }
    return result
}

/// The whole file, read until its end.
func contents(of path: String) throws -> [UInt8] {
    let file = try Descriptor(path, O_RDONLY)
    var result: [UInt8] = []
    while true {
        let part = try file.read(65536, at: result.count)
        if part.isEmpty { return result }
        result += part
    }
}

/// The error code that `body` fails with, nil when it does not.
func failure(of body: () throws -> Void) -> Int32? {
    do {
        try body()
        return nil
    } catch let error as Failed {
        return error.code
    } catch {
        return -1
    }
}

func check(_ result: Int32) throws { if result != 0 { throw Failed(code: errno) } }
