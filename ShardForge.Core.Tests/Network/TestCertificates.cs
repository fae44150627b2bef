using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace ShardForge.Tests.Network;

/// <summary>Certificates of a test's own.</summary>
internal static class TestCertificates
{
    private static readonly DateTimeOffset s_start = new(2020, 1, 1, 0, 0, 0, TimeSpan.Zero), s_end = new(2090, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public static X509Certificate2 Authority(string name)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, hasPathLengthConstraint: false, pathLengthConstraint: 0, critical: true));
        return request.CreateSelfSigned(s_start, s_end);
    }

    public static X509Certificate2 SignedBy(X509Certificate2 authority, string name, DateTimeOffset? end = null)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={name}", key, HashAlgorithmName.SHA256);
        byte[] serial = SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(name))[..8];
        using X509Certificate2 signed = request.Create(authority, s_start, end ?? s_end, serial);
        return signed.CopyWithPrivateKey(key);
    }

    public static X509Certificate2 SelfSigned(string name)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        return new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256).CreateSelfSigned(s_start, s_end);
    }
}
