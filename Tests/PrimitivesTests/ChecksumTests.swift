import Primitives
import Testing

@Suite struct `Checksums and names` {
    @Test func `XXH3 gives the values that its authors publish`() {
        #expect(hash64(UnsafeRawBufferPointer(start: nil, count: 0)) == 0x2D06_8005_38D3_94C2)
        #expect(hash128(UnsafeRawBufferPointer(start: nil, count: 0)).description == "99aa06d3014798d86001c324468d497f")
    }

    @Test func `the same bytes have another sum at another block and in another volume`() {
        let bytes = ByteBuffer(count: blockSize)
        let one = BlockHasher(volume: Identifier(high: 1, low: 2))
        let other = BlockHasher(volume: Identifier(high: 1, low: 3))
        var seen: Set<UInt64> = []
        for block in 0..<UInt64(1000) {
            seen.insert(one.sum(bytes.base, block: block))
            seen.insert(other.sum(bytes.base, block: block))
        }
        #expect(seen.count == 2000)
        #expect(one.sum(bytes.base, block: 5) == one.sum(bytes.base, block: 5))
    }

    @Test func `a sum is never one of the two marks`() {
        #expect(usableSum(0) == 1)
        #expect(usableSum(lostSum) == lostSum - 1)
        #expect(usableSum(77) == 77)
    }

    @Test func `an identifier is read back as it is written, and nothing else is one`() {
        let identifier = Identifier(random: 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210)
        #expect(Identifier(identifier.description) == identifier)
        #expect(identifier.description.count == 36)
        for bad in [
            "", "01234567-89ab-cdef-fedc-ba987654321", "../../../../../../../../../../../../x", "0123456789abcdef",
        ] {
            #expect(Identifier(bad) == nil)
        }
        #expect(Identifier(identifier.description.uppercased()) == nil)
    }

    @Test func `zeros are told from everything else at any length`() {
        let buffer = ByteBuffer(count: 200)
        for length in 0...200 {
            let part = UnsafeRawBufferPointer(rebasing: buffer.readable[0..<length])
            #expect(part.isZero)
            if length > 0 {
                for position in [0, length / 2, length - 1] {
                    buffer.bytes[position] = 1
                    #expect(!part.isZero)
                    buffer.bytes[position] = 0
                }
            }
        }
    }

    @Test func `ranges meet where both have blocks`() {
        let range = BlockRange(start: 10, count: 10)
        #expect(range.intersection(BlockRange(start: 15, count: 10)) == BlockRange(start: 15, count: 5))
        #expect(range.intersection(BlockRange(start: 20, count: 1)) == nil)
        #expect(range.intersection(BlockRange(start: 0, count: 100)) == range)
    }
}
