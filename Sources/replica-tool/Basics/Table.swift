/// Rows under headings, in columns as wide as their widest text; numbers stand at the right.
struct Table {
    enum Side { case left, right }
    private let headings: [(String, Side)]
    private var rows: [[String]] = []

    init(_ headings: [(String, Side)]) { self.headings = headings }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        var widths = headings.map { $0.0.count }
        for row in rows {
            for (index, cell) in row.enumerated() where index < widths.count {
                widths[index] = max(widths[index], cell.count)
            }
        }
        var result = line(headings.map(\.0), widths)
        for row in rows { result += line(row, widths) }
        return result
    }

    private func line(_ cells: [String], _ widths: [Int]) -> String {
        var result = ""
        for (index, cell) in cells.enumerated() {
            let gap = String(repeating: " ", count: max(0, widths[index] - cell.count))
            if index > 0 { result += "  " }
            result += headings[index].1 == .left ? cell + gap : gap + cell
        }
        while result.hasSuffix(" ") { result.removeLast() }
        return result + "\n"
    }
}

/// `name: value` lines, the values one below the other.
func facts(_ items: [(String, String?)]) -> String {
    let width = items.map { $0.0.count }.max() ?? 0
    var result = ""
    for (name, value) in items {
        guard let value else { continue }
        result += name + ":" + String(repeating: " ", count: width - name.count + 1) + value + "\n"
    }
    return result
}
