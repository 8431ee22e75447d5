import Primitives
import Testing

@Suite struct JSONTests {
    @Test func `what is written is read back, in order and exactly`() throws {
        let value: JSON = [
            "z": 1, "a": [true, false, nil, "x\"\\/\n\u{1}ü𝄞", -9_223_372_036_854_775_807], "empty": [:], "none": [],
            "big": .integer(Int64.max), "half": .number(0.5),
        ]
        #expect(try JSON(parsing: value.description) == value)
        #expect(try JSON(parsing: value.pretty) == value)
        #expect(value.description.hasPrefix("{\"z\":1,\"a\":["))
    }

    @Test func `escapes and surrogate pairs are read`() throws {
        #expect(try JSON(parsing: #" "\u00e9\ud834\udd1e\b\f\r\t\/" "#).text == "é𝄞\u{8}\u{C}\r\t/")
    }

    @Test(arguments: [
        "", " ", "{", "[", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{a:1}", "nul", "tru", "01", "-", "1.", ".5", "+1",
        "1e", "\"",
        "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "1 2", "[] []", "\"\u{1}\"", "NaN",
        "1-2", "--1",
    ])
    func `text that is not JSON is refused`(text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
    }

    @Test func `bytes that are not UTF-8 are refused`() {
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xC3, 0x28, 0x22]) }
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xED, 0xA0, 0x80, 0x22]) }
    }

    @Test func `depth is limited before the stack is`() throws {
        let text = String(repeating: "[", count: 33) + String(repeating: "]", count: 33)
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
        #expect(try JSON(parsing: String(text.dropFirst().dropLast())).items?.count == 1)
        #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "{\"a\":", count: 1_000_000)) }
    }

    @Test func `siblings do not count as depth`() throws {
        let text = "[" + Array(repeating: "[{}]", count: 1000).joined(separator: ",") + "]"
        #expect(try JSON(parsing: text).items?.count == 1000)
    }

    @Test func `a number that is no whole one is a double`() throws {
        #expect(try JSON(parsing: "1.5").double == 1.5)
        #expect(try JSON(parsing: "-2e3").double == -2000)
        #expect(try JSON(parsing: "1.5").count == nil)
        #expect(try JSON(parsing: "-1").count == nil)
    }
}
