/// The rule for names of snapshots.
public enum SnapshotName {
    /// nil if `name` is good, otherwise what is wrong with it.
    ///
    /// A name is 1 to 128 bytes of ASCII letters, digits, `.`, `_`, `-` and `:`, and starts with neither `.` nor `-`,
    /// so that it is a file name in the mount and never an option on a command line.
    public static func fault(_ name: String) -> String? {
        let bytes = Array(name.utf8)
        if bytes.isEmpty { return "a snapshot's name is empty" }
        if bytes.count > FormatLimit.snapshotNameBytes {
            return "a snapshot's name has \(bytes.count) bytes; \(FormatLimit.snapshotNameBytes) are allowed"
        }
        if bytes[0] == UInt8(ascii: ".") || bytes[0] == UInt8(ascii: "-") {
            return "the snapshot name '\(printable(name))' starts with '\(printable(String(name.prefix(1))))'"
        }
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                UInt8(ascii: ":"):
                continue
            default:
                return
                    "the snapshot name '\(printable(name))' holds a character other than letters, digits, '.', '_', '-', ':'"
            }
        }
        return nil
    }

    private static func printable(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "?" : Character($0) })
    }
}
