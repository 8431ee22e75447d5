internal import CLinux
internal import Glibc

/// A directory descriptor; everything inside is opened relative to it.
final class LinuxDirectory: Directory {
    let path: String
    private let descriptor: Int32

    init(path: String) throws(IOError) {
        let opened = cl_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        if opened < 0 { throw IOError(call: "open", path: path, code: -opened) }
        self.path = path
        descriptor = opened
    }

    private init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    private func full(_ name: String) -> String { path.hasSuffix("/") ? path + name : path + "/" + name }

    private func checkComponent(_ name: String) throws(IOError) {
        if name.isEmpty || name == "." || name == ".." || name.utf8.contains(UInt8(ascii: "/")) {
            throw IOError(call: "openat", path: full(name), code: EINVAL)
        }
    }

    func open(_ name: String, _ access: FileAccess) throws(IOError) -> any File {
        try checkComponent(name)
        var flags = O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK
        switch access {
        case .readOnly: flags |= O_RDONLY
        case .readWrite: flags |= O_RDWR
        case .create: flags |= O_RDWR | O_CREAT | O_EXCL
        }
        let opened = cl_openat(descriptor, name, flags, 0o600)
        if opened < 0 { throw IOError(call: "openat", path: full(name), code: -opened) }
        let file = LinuxFile(path: full(name), descriptor: opened, access: access)
        try file.checkRegular()
        return file
    }

    func openDirectory(_ name: String) throws(IOError) -> any Directory {
        try checkComponent(name)
        let opened = cl_openat(descriptor, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
        if opened < 0 { throw IOError(call: "openat", path: full(name), code: -opened) }
        return LinuxDirectory(path: full(name), descriptor: opened)
    }

    func createDirectory(_ name: String) throws(IOError) {
        try checkComponent(name)
        if mkdirat(descriptor, name, 0o700) != 0 { throw IOError(call: "mkdirat", path: full(name), code: errno) }
    }

    func remove(_ name: String) throws(IOError) {
        try checkComponent(name)
        if unlinkat(descriptor, name, 0) != 0 { throw IOError(call: "unlinkat", path: full(name), code: errno) }
    }

    func removeDirectory(_ name: String) throws(IOError) {
        try checkComponent(name)
        if unlinkat(descriptor, name, Int32(AT_REMOVEDIR)) != 0 {
            throw IOError(call: "unlinkat", path: full(name), code: errno)
        }
    }

    func rename(_ name: String, to newName: String) throws(IOError) {
        try checkComponent(name)
        try checkComponent(newName)
        if renameat(descriptor, name, descriptor, newName) != 0 {
            throw IOError(call: "renameat", path: full(name), code: errno)
        }
    }

    func list() throws(IOError) -> [DirectoryEntry] {
        let copy = cl_openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        if copy < 0 { throw IOError(call: "openat", path: path, code: -copy) }
        guard let stream = fdopendir(copy) else {
            let code = errno
            close(copy)
            throw IOError(call: "fdopendir", path: path, code: code)
        }
        defer { closedir(stream) }
        var entries: [DirectoryEntry] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw IOError(call: "readdir", path: path, code: errno) }
                break
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name == "." || name == ".." { continue }
            entries.append(DirectoryEntry(name: name, kind: kind(of: name)))
        }
        return entries.sorted { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
    }

    private func kind(of name: String) -> EntryKind {
        var info = stat()
        guard fstatat(descriptor, name, &info, AT_SYMLINK_NOFOLLOW) == 0 else { return .other }
        switch info.st_mode & S_IFMT {
        case S_IFREG: return .file
        case S_IFDIR: return .directory
        default: return .other
        }
    }

    func sync() throws(IOError) {
        let code = cl_fsync(descriptor)
        if code < 0 { throw IOError(call: "fsync", path: path, code: -code) }
    }

    func space() throws(IOError) -> Space {
        var available: UInt64 = 0
        var total: UInt64 = 0
        var type: Int64 = 0
        let code = cl_space(descriptor, &available, &total, &type)
        if code < 0 { throw IOError(call: "fstatfs", path: path, code: -code) }
        return Space(available: available, total: total)
    }
}
