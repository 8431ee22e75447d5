/// nil for a good name; otherwise what is wrong.
func snapshotNameFault(_ name: String) -> String? {
    let bytes = Array(name.utf8)
    if bytes.isEmpty { return "an empty snapshot name" }
    if bytes.count > 128 { return "a snapshot name of \(bytes.count) bytes" }
    if bytes[0] == UInt8(ascii: ".") || bytes[0] == UInt8(ascii: "-") {
        return "'\(printable(name))' is no snapshot name"
    }
    for byte in bytes {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
            UInt8(ascii: ":"):
            continue
        default: return "'\(printable(name))' is no snapshot name"
        }
    }
    return nil
}
