/// How the kernel's page cache takes part.
public enum CacheMode: String, Sendable, Hashable, CaseIterable {
    /// The kernel keeps pages for reads; a write reaches the store before it returns. O_DIRECT passes the cache by.
    case writethrough
    /// Every open passes the page cache by.
    case none
    /// The kernel also gathers writes, and sends them later; fsync(2) is still real.
    case writeback
}

/// How a volume is mounted.
public struct MountOptions: Sendable {
    public var isReadOnly = false
    public var cache = CacheMode.writethrough
    /// Lets users other than the one who mounts in, by the permission bits.
    public var allowsOthers = false
    /// Threads that serve requests; at least 2, because the kernel may send a request while another waits for it.
    public var threadCount: Int
    /// The source that the mount table shows: the volume's path.
    public var sourceName: String
    /// What the user gave with `-o`: one option each, as mount(8) and mount.fuse3(8) have them. `nonempty` allows a
    /// mount point that holds files.
    public var userOptions: [String] = []
    /// Owner of all files of the mount.
    public var owner: UInt32
    public var group: UInt32
    /// The wall clock in nanoseconds since 1970, for the times of files.
    public var now: @Sendable () -> Int64

    /// - Parameter coreCount: processors of the machine; twice as many threads serve.
    public init(
        sourceName: String, owner: UInt32, group: UInt32, coreCount: Int, now: @escaping @Sendable () -> Int64
    ) {
        self.sourceName = sourceName
        self.owner = owner
        self.group = group
        self.threadCount = max(2, coreCount) * 2
        self.now = now
    }

    /// These options with those of `userOptions` that the frontend itself must know taken into its own fields.
    func normalised() -> (options: MountOptions, allowsFilesBelow: Bool) {
        var result = self
        var allowsFilesBelow = false
        result.userOptions = []
        for option in userOptions.flatMap({ splitAtCommas($0) }) {
            switch option {
            case "", "rw", "defaults": break
            case "ro": result.isReadOnly = true
            case "allow_other": result.allowsOthers = true
            case "nonempty": allowsFilesBelow = true
            default: result.userOptions.append(option)
            }
        }
        result.threadCount = max(2, threadCount)
        return (result, allowsFilesBelow)
    }

    /// The text behind `-o` for libfuse.
    func libfuseText() -> String {
        // A comma ends an option, unless a backslash stands before it.
        var source = ""
        for character in sourceName {
            if character == "," || character == "\\" { source.append("\\") }
            source.append(character)
        }
        var parts = ["fsname=\(source)", "subtype=replica-store", "nosuid", "nodev", "noatime"]
        if allowsOthers { parts += ["allow_other", "default_permissions"] }
        if isReadOnly { parts.append("ro") }
        parts += userOptions
        return parts.joined(separator: ",")
    }
}

/// `-o a,b` is the same as `-o a -o b`; a comma behind a backslash belongs to the option.
private func splitAtCommas(_ text: String) -> [String] {
    var parts = [""]
    var isEscaped = false
    for character in text {
        if character == ",", !isEscaped {
            parts.append("")
        } else {
            parts[parts.count - 1].append(character)
        }
        isEscaped = character == "\\" && !isEscaped
    }
    return parts
}
