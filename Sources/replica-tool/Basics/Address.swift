import Format
import Glibc
import Primitives

/// `PATH` or `PATH@SNAP`, as written on the command line.
struct Address: Sendable, Hashable {
    var path: String
    var snapshot: String?

    /// What stands behind the last `@` is a snapshot, unless a directory of the whole name exists.
    init(_ text: String) throws(ToolError) {
        guard !text.isEmpty else { throw ToolError(.usage, "an empty path: give a volume or replica directory") }
        guard !text.utf8.contains(0) else { throw ToolError(.usage, "a path with a zero byte") }
        guard let sign = text.lastIndex(of: "@"), !text[sign...].contains("/"), !isDirectory(text) else {
            path = Address.trimmed(text)
            return
        }
        path = Address.trimmed(String(text[..<sign]))
        let name = String(text[text.index(after: sign)...])
        guard !path.isEmpty else { throw ToolError(.usage, "'\(printable(text))' names no volume in front of '@'") }
        try Address.checkSnapshotName(name)
        snapshot = name
    }

    /// An address that must name a snapshot.
    init(withSnapshot text: String) throws(ToolError) {
        try self.init(text)
        guard snapshot != nil else {
            throw ToolError(.usage, "'\(printable(text))' names no snapshot: write \(printable(text))@NAME")
        }
    }

    /// An address that must not.
    init(withoutSnapshot text: String) throws(ToolError) {
        try self.init(text)
        guard snapshot == nil else {
            throw ToolError(.usage, "'\(printable(text))' names a snapshot: this verb takes a volume as a whole")
        }
    }

    var text: String { snapshot.map { path + "@" + $0 } ?? path }

    static func checkSnapshotName(_ name: String) throws(ToolError) {
        if let fault = SnapshotName.fault(name) {
            throw ToolError(
                .usage,
                "\(fault): write 1 to 128 letters, digits, '.', '_', '-' or ':', not starting with '.' or '-'")
        }
    }

    /// Without slashes at the end, which would make an empty last component.
    private static func trimmed(_ text: String) -> String {
        var result = text
        while result.count > 1, result.hasSuffix("/") { result.removeLast() }
        return result
    }
}

/// `k=v` pairs of `--label`.
func parseLabels(_ items: [String]) throws(ToolError) -> [String: String] {
    var labels: [String: String] = [:]
    for item in items {
        guard let sign = item.firstIndex(of: "="), sign != item.startIndex else {
            throw ToolError(.usage, "'\(printable(item))' is no label: write name=value")
        }
        let name = String(item[..<sign])
        guard labels[name] == nil else { throw ToolError(.usage, "the label '\(printable(name))' is given twice") }
        labels[name] = String(item[item.index(after: sign)...])
    }
    return labels
}

func isDirectory(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
}

func exists(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0
}

/// realpath(3), or the path itself where it does not exist.
func absolutePath(_ path: String) -> String {
    if let found = realpath(path, nil) {
        defer { free(found) }
        return String(cString: found)
    }
    if path.hasPrefix("/") { return path }
    guard let found = getcwd(nil, 0) else { return path }
    defer { free(found) }
    return String(cString: found) + "/" + path
}

/// The directory above, and the last component.
func split(_ path: String) -> (directory: String, name: String) {
    guard let slash = path.lastIndex(of: "/") else { return (".", path) }
    let name = String(path[path.index(after: slash)...])
    return (slash == path.startIndex ? "/" : String(path[..<slash]), name)
}
