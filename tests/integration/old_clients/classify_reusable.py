import requests

url = "http://localhost:8000/classify-reusable"

with open("컵 사진.jpg", "rb") as f:
    response = requests.post(url, files={"file": f})

result = response.json()
print(f"Reusable: {result['is_reusable']}")
print(f"Confidence: {result['confidence']:.2%}")
print(f"Class: {result['predicted_class']}")
for name, probability in result["probabilities"].items():
    print(f"  {name}: {probability:.4f}")
print(result["message"])

# not an image
response = requests.post(url, files={"file": ("memo.txt", b"this is not an image", "text/plain")})
if response.status_code != 200:
    print(f"Error {response.status_code}: {response.json()['detail']}")

# the field has another name
response = requests.post(url, files={"image": open("cup.jpg", "rb")})
if response.status_code == 422:
    for error in response.json()["detail"]:
        print(f"Invalid: {error['loc']} {error['msg']}")
