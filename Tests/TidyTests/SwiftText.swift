import Testing

/// Swift source with the characters of comments and string literals replaced by spaces: what is left is code, at the
/// same line and column.
///
/// It knows line comments, nested block comments, and literals with one or three quotes and any number of `#`. Code
/// inside an interpolation counts as part of its literal.
func codeOnly(_ text: String) -> String {
    var scanner = Scanner(bytes: Array(text.utf8))
    return scanner.run()
}

private struct Scanner {
    var bytes: [UInt8]
    var index = 0

    private func has(_ text: String, at place: Int) -> Bool {
        let wanted = Array(text.utf8)
        return place + wanted.count <= bytes.count && Array(bytes[place..<place + wanted.count]) == wanted
    }

    /// Blanks `count` bytes and steps over them; line ends stay.
    private mutating func blank(_ count: Int) {
        for _ in 0..<count where index < bytes.count {
            if bytes[index] != UInt8(ascii: "\n") { bytes[index] = UInt8(ascii: " ") }
            index += 1
        }
    }

    mutating func run() -> String {
        while index < bytes.count {
            if has("//", at: index) {
                while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { blank(1) }
            } else if has("/*", at: index) {
                blockComment()
            } else if bytes[index] == UInt8(ascii: "\"") || bytes[index] == UInt8(ascii: "#") {
                literalOrHash()
            } else {
                index += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private mutating func blockComment() {
        var depth = 0
        repeat {
            if has("/*", at: index) {
                depth += 1
                blank(2)
            } else if has("*/", at: index) {
                depth -= 1
                blank(2)
            } else {
                blank(1)
            }
        } while depth > 0 && index < bytes.count
    }

    private mutating func literalOrHash() {
        var hashes = 0
        while index + hashes < bytes.count, bytes[index + hashes] == UInt8(ascii: "#") { hashes += 1 }
        guard has("\"", at: index + hashes) else {
            index += max(hashes, 1)
            return
        }
        let quote = has("\"\"\"", at: index + hashes) ? "\"\"\"" : "\""
        let end = quote + String(repeating: "#", count: hashes)
        let escape = "\\" + String(repeating: "#", count: hashes)
        blank(hashes + quote.utf8.count)
        var nesting = 0
        while index < bytes.count {
            if nesting == 0, has(end, at: index) {
                blank(end.utf8.count)
                return
            }
            if nesting == 0, has(escape + "(", at: index) {
                nesting = 1
                blank(escape.utf8.count + 1)
            } else if nesting == 0, has(escape, at: index) {
                blank(escape.utf8.count + 1)
            } else if nesting > 0, bytes[index] == UInt8(ascii: "\"") {
                literalOrHash()
            } else {
                if nesting > 0, bytes[index] == UInt8(ascii: "(") { nesting += 1 }
                if nesting > 0, bytes[index] == UInt8(ascii: ")") { nesting -= 1 }
                // A literal of one line that never ends is not Swift; going on would eat the rest of the file.
                if quote == "\"", bytes[index] == UInt8(ascii: "\n") { return }
                blank(1)
            }
        }
    }
}

@Suite struct SwiftText {
    @Test(arguments: [
        ("let a = 1 // getenv", "let a = 1"),
        ("a /* x /* y */ z */ b", "a                   b"),
        (#"call("getenv(\(name("x")))", b)"#, "call(                      , b)"),
        (##"call(#"a " \(b) \#(c)"#, d)"##, "call(                  , d)"),
        ("\"\"\"\n getenv \" \n\"\"\" + b", "\n\n    + b"),
        (#""\"" + b"#, "     + b"),
        ("#if os(Linux)\nb", "#if os(Linux)\nb"),
    ])
    func `comments and literals are blanked and code keeps its place`(source: String, code: String) {
        let trimmed = codeOnly(source).split(separator: "\n", omittingEmptySubsequences: false)
            .map { line in String(line.reversed().drop { $0 == " " }.reversed()) }
            .joined(separator: "\n")
        #expect(trimmed == code)
        #expect(codeOnly(source).utf8.count == source.utf8.count)
    }
}
