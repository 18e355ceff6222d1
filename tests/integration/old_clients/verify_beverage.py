import requests

BASE_URL = "http://localhost:8000"


def verify(path, threshold=0.7):
    with open(path, "rb") as image:
        response = requests.post(
            f"{BASE_URL}/verify-beverage",
            params={"confidence_threshold": threshold},
            files={"file": ("drink.jpg", image, "image/jpeg")},
        )
    response.raise_for_status()
    return response.json()


def verify_with_form(path, threshold):
    with open(path, "rb") as image:
        files = {"file": ("drink.jpg", image, "image/jpeg")}
        data = {"confidence_threshold": threshold, "store_id": 3, "memo": "텀블러"}
        return requests.post(f"{BASE_URL}/verify-beverage", files=files, data=data).json()


result = verify("drink.jpg")
print("has_beverage:", result["has_beverage"])
print("predicted_class:", result["predicted_class"])
print("message:", result["message"])
print("probabilities:", list(result["probabilities"]))
print("query 0.0:", verify("drink.jpg", 0.0)["is_valid"])
print("query 1.0:", verify("drink.jpg", 1.0)["is_valid"])
print("form 0.0:", verify_with_form("drink.jpg", 0.0)["is_valid"])
print("form 1.0:", verify_with_form("drink.jpg", "1.0")["is_valid"])
print("form empty:", verify_with_form("drink.jpg", "")["has_beverage"])
