internal import Glibc

/// One line of /proc/self/mountinfo.
struct MountTableEntry: Hashable {
    /// `major:minor` of the file system's device number.
    var device: String
    var mountPoint: String
    /// `fuse.replica-store` for a mount of ours.
    var type: String

    /// The mount that a path look-up of `mountPoint` ends in: the last of those stacked there. nil when there is none.
    static func top(at mountPoint: String) -> MountTableEntry? {
        parse(contents(of: "/proc/self/mountinfo")).last { $0.mountPoint == mountPoint }
    }

    /// Reads the table's text; lines that are not understood are passed over.
    static func parse(_ text: [UInt8]) -> [MountTableEntry] {
        text.split(separator: UInt8(ascii: "\n")).compactMap { line in
            let fields = line.split(separator: UInt8(ascii: " "))
            // Optional fields lie between the sixth and a lone hyphen; the type comes right behind that.
            guard fields.count > 6,
                let hyphen = fields.indices.dropFirst(6).first(where: { fields[$0].elementsEqual("-".utf8) }),
                hyphen + 1 < fields.count
            else { return nil }
            return MountTableEntry(
                device: unescaped(fields[2]), mountPoint: unescaped(fields[4]), type: unescaped(fields[hyphen + 1]))
        }
    }

    /// Blanks, line ends and backslashes stand as a backslash and three octal digits.
    private static func unescaped(_ field: ArraySlice<UInt8>) -> String {
        var result: [UInt8] = []
        var rest = field
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                result.append(code)
                rest = rest.dropFirst(3)
            } else {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}

/// The bytes of a file of /proc, empty when it cannot be read.
private func contents(of path: String) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return [] }
    defer { close(descriptor) }
    var result: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let got = read(descriptor, &chunk, chunk.count)
        if got < 0 && errno == EINTR { continue }
        if got <= 0 { return result }
        result += chunk[..<got]
    }
}
