/// A JSON value (RFC 8259) whose objects keep the order of their members.
///
/// It is small on purpose: the documents of this project are a few kilobytes, whole numbers must stay exact, and the
/// depth of what a peer sends is limited before it is read.
public enum JSON: Sendable, Hashable {
    case null
    case bool(Bool)
    /// A number without fraction or exponent that fits.
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([Member])

    /// One name of an object and its value.
    public struct Member: Sendable, Hashable {
        public var name: String
        public var value: JSON
        public init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// A count or a size. What does not fit 63 bits is cut to the largest number that does.
    public init(_ value: UInt64) { self = .integer(Int64(clamping: value)) }
    public init(_ value: Int) { self = .integer(Int64(value)) }
    /// The text, or null for none.
    public init(_ value: String?) { self = value.map { .string($0) } ?? .null }
    /// An object with its members sorted by name, so that the order of a dictionary never shows.
    public init(_ labels: [String: String]) {
        self = .object(labels.sorted { $0.key < $1.key }.map { Member($0.key, .string($0.value)) })
    }

    /// The value of the object's member `name`; nil for no such member, null, or no object.
    public subscript(name: String) -> JSON? {
        guard case .object(let members) = self, let found = members.first(where: { $0.name == name }) else {
            return nil
        }
        if case .null = found.value { return nil }
        return found.value
    }

    public var text: String? {
        if case .string(let value) = self { return value }
        return nil
    }
    public var flag: Bool? {
        if case .bool(let value) = self { return value }
        return nil
    }
    /// A whole number that is not negative.
    public var count: UInt64? {
        if case .integer(let value) = self { return UInt64(exactly: value) }
        return nil
    }
    public var int: Int? {
        if case .integer(let value) = self { return Int(exactly: value) }
        return nil
    }
    public var double: Double? {
        switch self {
        case .number(let value): return value
        case .integer(let value): return Double(value)
        default: return nil
        }
    }
    public var items: [JSON]? {
        if case .array(let value) = self { return value }
        return nil
    }
    public var members: [Member]? {
        if case .object(let value) = self { return value }
        return nil
    }
    /// The members of an object whose values are all texts.
    public var texts: [String: String]? {
        guard let members else { return nil }
        var result: [String: String] = [:]
        for member in members {
            guard let value = member.value.text else { return nil }
            result[member.name] = value
        }
        return result
    }

    /// This object with one more member at its end.
    public func adding(_ name: String, _ value: JSON) -> JSON {
        guard case .object(let members) = self else { return self }
        return .object(members + [Member(name, value)])
    }
}

extension JSON: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, ExpressibleByStringLiteral,
    ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral
{
    public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements.map { Member($0.0, $0.1) }) }
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(nilLiteral: ()) { self = .null }
}

extension JSON: CustomStringConvertible {
    /// On one line, without spaces.
    public var description: String {
        var bytes: [UInt8] = []
        write(to: &bytes, indentation: nil)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// On several lines, each level two spaces further in.
    public var pretty: String {
        var bytes: [UInt8] = []
        write(to: &bytes, indentation: 0)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func write(to bytes: inout [UInt8], indentation: Int?) {
        switch self {
        case .null: bytes += "null".utf8
        case .bool(let value): bytes += (value ? "true" : "false").utf8
        case .integer(let value): bytes += String(value).utf8
        case .number(let value):
            // JSON has no word for these; null says that there is no number.
            bytes += (value.isFinite ? String(value) : "null").utf8
        case .string(let value): JSON.write(value, to: &bytes)
        case .array(let items):
            JSON.write(items.count, "[", "]", to: &bytes, indentation) { index, bytes, inner in
                items[index].write(to: &bytes, indentation: inner)
            }
        case .object(let members):
            JSON.write(members.count, "{", "}", to: &bytes, indentation) { index, bytes, inner in
                JSON.write(members[index].name, to: &bytes)
                bytes += (inner == nil ? ":" : ": ").utf8
                members[index].value.write(to: &bytes, indentation: inner)
            }
        }
    }

    private static func write(
        _ count: Int, _ open: String, _ close: String, to bytes: inout [UInt8], _ indentation: Int?,
        element: (Int, inout [UInt8], Int?) -> Void
    ) {
        bytes += open.utf8
        let inner = indentation.map { $0 + 2 }
        for index in 0..<count {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            if let inner { newLine(inner, to: &bytes) }
            element(index, &bytes, inner)
        }
        if let indentation, count > 0 { newLine(indentation, to: &bytes) }
        bytes += close.utf8
    }

    private static func newLine(_ indentation: Int, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\n"))
        bytes += [UInt8](repeating: UInt8(ascii: " "), count: indentation)
    }

    private static func write(_ text: String, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): bytes += "\\\"".utf8
            case UInt8(ascii: "\\"): bytes += "\\\\".utf8
            case UInt8(ascii: "\n"): bytes += "\\n".utf8
            case UInt8(ascii: "\r"): bytes += "\\r".utf8
            case UInt8(ascii: "\t"): bytes += "\\t".utf8
            case 0..<0x20, 0x7F:
                let digits = String(byte, radix: 16)
                bytes += ("\\u" + String(repeating: "0", count: 4 - digits.count) + digits).utf8
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
