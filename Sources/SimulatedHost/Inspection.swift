public import HostIO
public import Primitives

/// A file as it lies on a disk: enough to say that two are the same.
public struct FileImage: Sendable, Hashable {
    public var size: UInt64
    public var allocatedPages: Int
    /// Over place and bytes of each page that is data.
    public var hash: Hash128
}

extension SimulatedHost {
    /// Every file and directory under `path`, by path; a directory has no image.
    /// - Parameter excluded: left out, with everything in it.
    public func images(under path: String = "/", except excluded: String? = nil) -> [String: FileImage?] {
        let disk = machine.withLock { $0.disk }
        var found: [String: FileImage?] = [:]
        func visit(_ entry: Entry, _ path: String) {
            if path == excluded { return }
            switch entry {
            case .file(let number): found[path] = .some(disk.files[number].current.image())
            case .directory(let number):
                found[path] = .some(nil)
                for (name, next) in disk.directories[number].current {
                    visit(next, path.hasSuffix("/") ? path + name : path + "/" + name)
                }
            }
        }
        if let entry = disk.entry(path) { visit(entry, path) }
        return found
    }

    /// The paths of all files under `path`, in order.
    public func files(under path: String = "/") -> [String] {
        images(under: path).filter { $0.value != nil }.map(\.key).sorted()
    }

    /// The bytes of a file as its readers see them.
    /// - Throws: ENOENT.
    public func bytes(of path: String) throws(IOError) -> [UInt8] {
        let content = try machine.withLock { (machine) throws(IOError) in
            guard case .file(let number)? = machine.disk.entry(path) else {
                throw IOError(call: "read", path: path, code: errnoNotFound)
            }
            return machine.disk.files[number].current
        }
        return [UInt8](unsafeUninitializedCapacity: Int(content.size)) { buffer, count in
            count = content.read(into: UnsafeMutableRawBufferPointer(buffer), at: 0)
        }
    }
}

extension Content {
    func image() -> FileImage {
        var hash = Hash128.zero
        for index in allocated(from: 0) {
            guard case .data(let bytes) = page(index) else { continue }
            let own = bytes.withUnsafeBytes { hash128($0, seed: index) }
            var pair = [hash.high, hash.low, own.high, own.low]
            hash = pair.withUnsafeMutableBytes { hash128(UnsafeRawBufferPointer($0)) }
        }
        return FileImage(size: size, allocatedPages: allocatedPages, hash: hash)
    }
}
