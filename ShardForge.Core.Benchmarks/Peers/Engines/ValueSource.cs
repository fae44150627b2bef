namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>Values of 100 bytes that compress to about a half: each piece of 50 random bytes twice, as db_bench makes them.</summary>
internal sealed class ValueSource
{
    public const int ValueBytes = 100;
    private readonly byte[] _bytes = new byte[1024 * 1024];
    private int _at;

    public ValueSource(int seed)
    {
        ulong random = KeySource.Mix((ulong)seed);
        for (int piece = 0; piece < _bytes.Length; piece += ValueBytes)
        {
            int end = Math.Min(piece + ValueBytes, _bytes.Length);
            for (int at = piece; at < end; at++)
            {
                if (at < piece + (ValueBytes / 2))
                    _bytes[at] = (byte)(' ' + ((random = KeySource.Mix(random)) % 95));
                else
                    _bytes[at] = _bytes[at - (ValueBytes / 2)];
            }
        }
    }

    public ReadOnlySpan<byte> Next()
    {
        if (_at + ValueBytes > _bytes.Length)
            _at = 0;
        ReadOnlySpan<byte> value = _bytes.AsSpan(_at, ValueBytes);
        _at += ValueBytes;
        return value;
    }
}
