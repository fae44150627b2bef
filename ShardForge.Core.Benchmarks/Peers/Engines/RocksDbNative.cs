using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

[assembly: DisableRuntimeMarshalling]

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>What is needed of RocksDB's C interface (<c>rocksdb/c.h</c>), every argument blittable: a call costs a transition and nothing else.</summary>
/// <remarks>Of the package only its native library is used; its own wrapper marshals and allocates.</remarks>
internal static unsafe partial class RocksDbNative
{
    private const string Library = "rocksdb";

    [LibraryImport(Library)] public static partial nint rocksdb_options_create();
    [LibraryImport(Library)] public static partial void rocksdb_options_set_create_if_missing(nint options, byte value);
    [LibraryImport(Library)] public static partial void rocksdb_options_set_write_buffer_size(nint options, nuint bytes);
    [LibraryImport(Library)] public static partial void rocksdb_options_set_compression(nint options, int compression);
    [LibraryImport(Library)] public static partial void rocksdb_options_set_max_background_jobs(nint options, int jobs);
    [LibraryImport(Library)] public static partial void rocksdb_options_set_block_based_table_factory(nint options, nint tableOptions);
    [LibraryImport(Library)] public static partial nint rocksdb_block_based_options_create();
    [LibraryImport(Library)] public static partial void rocksdb_block_based_options_set_filter_policy(nint options, nint policy);
    [LibraryImport(Library)] public static partial void rocksdb_block_based_options_set_block_cache(nint options, nint cache);
    [LibraryImport(Library)] public static partial nint rocksdb_filterpolicy_create_bloom(double bitsPerKey);
    [LibraryImport(Library)] public static partial nint rocksdb_cache_create_lru(nuint bytes);
    [LibraryImport(Library)] public static partial nint rocksdb_readoptions_create();
    [LibraryImport(Library)] public static partial nint rocksdb_writeoptions_create();
    [LibraryImport(Library)] public static partial void rocksdb_writeoptions_set_sync(nint options, byte value);
    [LibraryImport(Library)] public static partial nint rocksdb_flushoptions_create();
    [LibraryImport(Library)] public static partial nint rocksdb_wait_for_compact_options_create();
    [LibraryImport(Library)] public static partial nint rocksdb_open(nint options, byte* name, byte** error);
    [LibraryImport(Library)] public static partial void rocksdb_close(nint db);
    [LibraryImport(Library)] public static partial void rocksdb_put(nint db, nint options, byte* key, nuint keyBytes, byte* value, nuint valueBytes, byte** error);
    [LibraryImport(Library)] public static partial void rocksdb_write(nint db, nint options, nint batch, byte** error);
    [LibraryImport(Library)] public static partial byte rocksdb_get_into_buffer(nint db, nint options, byte* key, nuint keyBytes, byte* buffer, nuint bufferBytes, nuint* valueBytes, byte* found, byte** error);
    [LibraryImport(Library)] public static partial void rocksdb_flush(nint db, nint options, byte** error);
    [LibraryImport(Library)] public static partial void rocksdb_wait_for_compact(nint db, nint options, byte** error);
    [LibraryImport(Library)] public static partial nint rocksdb_writebatch_create();
    [LibraryImport(Library)] public static partial void rocksdb_writebatch_clear(nint batch);
    [LibraryImport(Library)] public static partial void rocksdb_writebatch_put(nint batch, byte* key, nuint keyBytes, byte* value, nuint valueBytes);
    [LibraryImport(Library)] public static partial nint rocksdb_create_iterator(nint db, nint options);
    [LibraryImport(Library)] public static partial void rocksdb_iter_destroy(nint iterator);
    [LibraryImport(Library)] public static partial byte rocksdb_iter_valid(nint iterator);
    [LibraryImport(Library)] public static partial void rocksdb_iter_seek_to_first(nint iterator);
    [LibraryImport(Library)] public static partial void rocksdb_iter_seek(nint iterator, byte* key, nuint keyBytes);
    [LibraryImport(Library)] public static partial void rocksdb_iter_next(nint iterator);
    [LibraryImport(Library)] public static partial byte* rocksdb_iter_key(nint iterator, nuint* bytes);
    [LibraryImport(Library)] public static partial byte* rocksdb_iter_value(nint iterator, nuint* bytes);

    public static void Check(byte* error)
    {
        if (error != null)
            throw new InvalidOperationException("RocksDB: " + Marshal.PtrToStringUTF8((nint)error));
    }

    public static byte[] Name(string path) => [.. Encoding.UTF8.GetBytes(path), 0];
}
