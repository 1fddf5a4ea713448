from .compile import helper
@helper
def multiply(A, B, out):
    out[:, :] = 0.0
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            a = A[i, k]
            for j in range(B.shape[1]):
                out[i, j] += a * B[k, j]
@helper
def multiply_tn(A, B, out):
    out[:, :] = 0.0
    for i in range(A.shape[1]):
        for k in range(A.shape[0]):
            a = A[k, i]
            for j in range(B.shape[1]):
                out[i, j] += a * B[k, j]
@helper
def transpose(A, out):
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[j, i] = A[i, j]
@helper
def combine(y, K, coefficients, count, h, out):
    for i in range(y.size): out[i] = y[i]
    for j in range(count):
        c = h*coefficients[j]
        if c != 0.0:
            k = K[j]
            for i in range(y.size): out[i] += c*k[i]
@helper
def weighted(K, coefficients, count, h, out):
    for i in range(out.size): out[i] = 0.0
    for j in range(count):
        c = h*coefficients[j]
        if c != 0.0:
            k = K[j]
            for i in range(out.size): out[i] += c*k[i]
