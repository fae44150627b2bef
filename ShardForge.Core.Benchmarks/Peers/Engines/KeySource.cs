using System.Buffers.Binary;
using System.Numerics;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>What keys look like; all have 16 bytes.</summary>
internal enum KeyShape
{
    /// <summary>Eight bytes of number, big-endian, and eight zeros as text, as db_bench has them.</summary>
    Binary,

    /// <summary>Sixteen digits.</summary>
    Decimal,

    /// <summary>"user" and twelve digits.</summary>
    User,

    /// <summary>Sixteen bytes without any order.</summary>
    Random,
}

/// <summary>Makes the key of a number, and numbers in the order that a workload wants. One a thread; the same cost for every engine.</summary>
internal sealed class KeySource
{
    public const int KeyBytes = 16;
    private readonly KeyShape _shape;
    private readonly int _keys, _halfBits;
    private readonly int[] _zipfian;
    private ulong _random;
    private int _zipfianAt;

    public KeySource(KeyShape shape, int keys, KeyChoice choice, int seed)
    {
        _shape = shape;
        _keys = keys;
        _halfBits = (BitOperations.Log2((uint)Math.Max(4, keys - 1)) + 2) / 2;
        _random = Mix((ulong)seed + 1) | 1;
        _zipfian = choice == KeyChoice.Zipfian ? new Zipfian(keys, this).Draw(1 << 18) : [];
    }

    public static void Write(KeyShape shape, long number, Span<byte> key)
    {
        switch (shape)
        {
            case KeyShape.Binary:
                BinaryPrimitives.WriteInt64BigEndian(key, number);
                key[8..].Fill((byte)'0');
                break;
            case KeyShape.Random:
                BinaryPrimitives.WriteUInt64BigEndian(key, Mix((ulong)number));
                BinaryPrimitives.WriteUInt64BigEndian(key[8..], Mix(~(ulong)number));
                break;
            default:
                int first = shape == KeyShape.User ? 4 : 0;
                if (first > 0)
                    "user"u8.CopyTo(key);
                for (int at = KeyBytes - 1; at >= first; at--)
                {
                    (number, long digit) = Math.DivRem(number, 10);
                    key[at] = (byte)('0' + digit);
                }

                break;
        }
    }

    public void Write(long number, Span<byte> key) => Write(_shape, number, key);

    public ulong NextRandom()
    {
        // xorshift64* (Marsaglia 2003, Vigna 2016).
        _random ^= _random >> 12;
        _random ^= _random << 25;
        _random ^= _random >> 27;
        return _random * 0x2545F4914F6CDD1D;
    }

    public int Next(int bound) => (int)(((NextRandom() >> 32) * (ulong)bound) >> 32);

    public int NextKey() => Next(_keys);

    public int NextHot() => Next((_keys + 99) / 100);

    public int NextZipfian() => _zipfian[_zipfianAt++ & (_zipfian.Length - 1)];

    /// <summary>A permutation of the numbers below the count: a Feistel network, walked until it is inside.</summary>
    public int Shuffled(int index)
    {
        uint value = (uint)index, mask = (1u << _halfBits) - 1;
        do
        {
            uint left = value >> _halfBits, right = value & mask;
            for (uint round = 1; round <= 4; round++)
                (left, right) = (right, left ^ ((((right + round) * 0x9E3779B1) >> 11) & mask));
            value = (left << _halfBits) | right;
        }
        while (value >= (uint)_keys);
        return (int)value;
    }

    public static ulong Mix(ulong value)
    {
        // splitmix64.
        value += 0x9E3779B97F4A7C15;
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }

    /// <summary>Gray et al., "Quickly generating billion-record synthetic databases" (1994), as YCSB has it, then scrambled.</summary>
    private sealed class Zipfian(int keys, KeySource source)
    {
        private const double Theta = 0.99;

        public int[] Draw(int count)
        {
            double zeta = 0;
            for (int index = 1; index <= keys; index++)
                zeta += 1 / Math.Pow(index, Theta);
            double alpha = 1 / (1 - Theta), half = Math.Pow(0.5, Theta);
            double eta = (1 - Math.Pow(2.0 / keys, 1 - Theta)) / (1 - ((1 + half) / zeta));
            int[] drawn = new int[count];
            for (int at = 0; at < count; at++)
            {
                double uniform = (source.NextRandom() >> 11) * (1.0 / (1UL << 53)), scaled = uniform * zeta;
                long rank = scaled < 1 ? 0 : scaled < 1 + half ? 1 : (long)(keys * Math.Pow((eta * uniform) - eta + 1, alpha));
                drawn[at] = (int)(Mix((ulong)rank) % (ulong)keys);
            }

            return drawn;
        }
    }
}
