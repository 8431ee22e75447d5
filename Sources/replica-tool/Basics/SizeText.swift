import Primitives

/// Sizes as people write and read them. Units are powers of 1024, written K, M, G, T, P or KiB, MiB, …
enum SizeText {
    private static let units = ["K", "M", "G", "T", "P"]
    static let volumeLimit: UInt64 = 64 << 40

    /// Bytes of any number, not 0.
    /// - Throws: what is wrong and the spelling that is right.
    static func bytes(_ text: String) throws(ToolError) -> UInt64 {
        func refused(_ why: String) -> ToolError {
            ToolError(.usage, "'\(printable(text))' is no size: \(why)")
        }
        let example =
            "write a whole number of bytes, or one with K, M, G, T, P or KiB, MiB, GiB, TiB, PiB, like 10G or 1.5TiB"
        let bytes = Array(text.utf8)
        let digits = bytes.prefix { ($0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9")) || $0 == UInt8(ascii: ".") }
        let number = String(decoding: digits, as: UTF8.self)
        let unit = String(decoding: bytes[digits.count...], as: UTF8.self)
        if text.hasPrefix("-") { throw refused("it is negative; \(example)") }
        guard !number.isEmpty, number.first != ".", number.last != "." else { throw refused(example) }
        let factor = try factor(unit, text)
        let parts = number.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let whole = UInt64(parts[0]) else { throw refused(example) }
        var result = whole.multipliedReportingOverflow(by: factor)
        if result.overflow { throw refused("it is larger than any size here; \(example)") }
        if parts.count == 2 {
            guard parts[1].utf8.count <= 6, let fraction = UInt64(parts[1]) else {
                throw refused("use fewer digits; \(example)")
            }
            let scale = (0..<parts[1].utf8.count).reduce(UInt64(1)) { scale, _ in scale * 10 }
            let part = fraction.multipliedFullWidth(by: factor)
            let divided = scale.dividingFullWidth(part)
            guard divided.remainder == 0 else { throw refused("it is no whole number of bytes; \(example)") }
            result = result.partialValue.addingReportingOverflow(divided.quotient)
            if result.overflow { throw refused("it is larger than any size here; \(example)") }
        }
        guard result.partialValue > 0 else { throw refused("it is zero; \(example)") }
        return result.partialValue
    }

    /// The size of a volume: a multiple of 4096 bytes, 64 TiB at most.
    static func volumeSize(_ text: String) throws(ToolError) -> UInt64 {
        let size = try bytes(text)
        guard size <= volumeLimit else {
            throw ToolError(.usage, "'\(printable(text))' is too large for a volume: 64T is the most")
        }
        try checkAligned(size, text)
        return size
    }

    static func checkAligned(_ size: UInt64, _ text: String) throws(ToolError) {
        guard size % blockSize64 != 0 else { return }
        let lower = roundedDown(size, to: blockSize64)
        let upper = roundedUp(size, to: blockSize64)
        let choice = lower == 0 ? "\(upper)" : "\(lower) or \(upper)"
        throw ToolError(.usage, "'\(printable(text))' is no multiple of 4096 bytes: write \(choice)")
    }

    private static func factor(_ unit: String, _ text: String) throws(ToolError) -> UInt64 {
        if unit.isEmpty || unit == "B" { return 1 }
        for (index, letter) in units.enumerated() where unit == letter || unit == letter + "iB" {
            return 1 << (10 * UInt64(index + 1))
        }
        let first = unit.prefix(1).uppercased()
        if units.contains(first), unit.count <= 3 {
            let number = text.dropLast(unit.count)
            throw ToolError(
                .usage,
                "'\(printable(text))' is no size: units are powers of 1024 here and written \(first) or \(first)iB: "
                    + "write \(number)\(first) or \(number)\(first)iB")
        }
        throw ToolError(
            .usage,
            "'\(printable(text))' is no size: write a whole number of bytes, or one with K, M, G, T, P, like 10G")
    }

    /// `10 GiB`, `1.5 MiB`, `512 B`: at most one digit behind the point.
    static func human(_ bytes: UInt64) -> String {
        var unit: UInt64 = 1
        var name = "B"
        for (index, letter) in units.enumerated() {
            let next: UInt64 = 1 << (10 * UInt64(index + 1))
            if bytes < next { break }
            unit = next
            name = letter + "iB"
        }
        let tenths = (bytes / unit) * 10 + (bytes % unit) * 10 / unit
        return tenths % 10 == 0 ? "\(tenths / 10) \(name)" : "\(tenths / 10).\(tenths % 10) \(name)"
    }
}

/// Text from outside with control characters made visible, so that it can do nothing to a terminal.
func printable(_ text: String) -> String {
    String(text.unicodeScalars.map { $0.value < 32 || ($0.value >= 127 && $0.value < 160) ? "?" : Character($0) })
}
